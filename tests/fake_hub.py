"""A small hub on loopback: repositories in memory, commits that happen whole, faults at any request."""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class FakeHub:
    """Repositories by name: commits, each a revision and the files at it.

    Attributes:
        fault: asked with the number of each request, from 0; what it returns is done instead of answering:
            "close" the connection, an HTTP status, or None.
    """

    repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    fault: Callable[[int], str | int | None] = lambda _: None
    claimed: dict[str, int] = field(default_factory=dict)  # sizes that are told instead of the real ones

    def __enter__(self) -> "FakeHub":
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def answer(self) -> None:
                number = len(hub.requests)
                hub.requests.append(f"{self.command} {self.path}")
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                fault = hub.fault(number)
                if fault == "close":
                    self.close_connection = True
                    return
                status, headers, data = (fault, {}, b"{}") if isinstance(fault, int) else hub.handle(self, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(headers.get("X-Length", len(data))))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_HEAD = answer  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        path = request.path.partition("?")[0]
        parts = [part for part in path.split("/") if part]
        said: Any = {}
        match [request.command, *parts]:
            case ["POST", "api", "repos", "create"]:
                told = json.loads(body)
                name = f"{told['organization']}/{told['name']}" if told.get("organization") else told["name"]
                if name in self.repositories:
                    return 409, {}, json.dumps({"url": f"{self.url}/{name}"}).encode()
                self.repositories[name], self.private[name] = (
                    [("0" * 40, {})],
                    told.get("visibility", "private" if told.get("private") else "public") == "private",
                )
                said = {"url": f"{self.url}/{name}", "name": name}
            case ["POST", "api", "validate-yaml"]:
                said = {"errors": [], "warnings": []}
            case ["GET", "api", "whoami-v2"]:
                said = {"name": "ada", "type": "user"}
            case ["POST", "api", "models", user, name, "preupload", _]:
                files = json.loads(body)["files"]
                said = {
                    "files": [
                        {
                            "path": f["path"],
                            "uploadMode": "lfs" if f["path"].endswith(("safetensors", "png")) else "regular",
                            "shouldIgnore": False,
                            "oid": None,
                        }
                        for f in files
                    ]
                }
            case ["POST", *_, "info", "lfs", "objects", "batch"] | [
                "POST",
                _,
                _,
                "info",
                "lfs",
                "objects",
                "batch",
            ]:
                said = {
                    "transfer": "basic",
                    "objects": [
                        {
                            "oid": o["oid"],
                            "size": o["size"],
                            "actions": {"upload": {"href": f"{self.url}/lfs/{o['oid']}", "header": {}}},
                        }
                        for o in json.loads(body)["objects"]
                    ],
                }
            case ["PUT", "lfs", oid]:
                if hashlib.sha256(body).hexdigest() != oid:
                    return 400, {}, b"{}"
                self.large[oid] = body
            case ["POST", "api", "models", user, name, "commit", _]:
                said = self.commit(f"{user}/{name}", body)
            case ["GET", "api", "models", user, name, *rest] if f"{user}/{name}" in self.repositories:
                return self.info(f"{user}/{name}", rest)
            case ["GET" | "HEAD", user, name, "resolve", revision, *file] if f"{user}/{name}" in self.repositories:
                return self.file(f"{user}/{name}", revision, "/".join(file))
            case _:
                return 404, {"X-Error-Code": "RepoNotFound"}, b'{"error": "not found"}'
        return 200, {"Content-Type": "application/json"}, json.dumps(said).encode()

    def commit(self, repository: str, body: bytes) -> dict[str, Any]:
        files = dict(self.repositories[repository][-1][1])
        for line in body.decode().splitlines():
            entry = json.loads(line)
            match entry["key"], entry["value"]:
                case "file", value:
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile", value:
                    files[value["path"]] = self.large[value["oid"]]
                case "deletedFile", value:
                    files.pop(value["path"], None)
                case _:
                    pass
        revision = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()  # noqa: S324
        self.repositories[repository].append((revision, files))
        url = f"{self.url}/{repository}/commit/{revision}"
        return {"success": True, "commitOid": revision, "commitUrl": url, "hookOutput": ""}

    def at(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories[repository]
        if revision in ("main", ""):
            return commits[-1]
        return next((commit for commit in commits if commit[0] == revision), None)

    def info(self, repository: str, rest: list[str]) -> tuple[int, dict[str, str], bytes]:
        found = self.at(repository, rest[1] if len(rest) > 1 and rest[0] in ("revision", "tree") else "main")
        if found is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b'{"error": "no such revision"}'
        revision, files = found
        if rest[:1] == ["tree"]:
            said: Any = [
                {"type": "file", "path": name, "size": len(data), "oid": revision} for name, data in files.items()
            ]
        else:
            said = {
                "id": repository,
                "modelId": repository,
                "sha": revision,
                "private": self.private.get(repository, False),
                "tags": [],
                "siblings": [
                    {"rfilename": name, "size": self.claimed.get(name, len(data)), "blobId": revision}
                    for name, data in files.items()
                ],
            }
        return 200, {"Content-Type": "application/json"}, json.dumps(said).encode()

    def file(self, repository: str, revision: str, name: str) -> tuple[int, dict[str, str], bytes]:
        found = self.at(repository, revision)
        if found is None or name not in found[1]:
            return 404, {"X-Error-Code": "EntryNotFound"}, b'{"error": "no such file"}'
        data = found[1][name]
        etag = hashlib.sha256(data).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": found[0]}, data

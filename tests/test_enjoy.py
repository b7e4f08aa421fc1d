"""`softac enjoy`: films that are really there, and one clear sentence where there can be none."""

import signal
import stat
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image

from probes import Probe, trained
from softac import SAC
from softac.cli.main import main
from softac.envs import rendering
from softac.envs.video import film, find_ffmpeg
from softac.errors import ConfigError, DiskError, EnvironmentFailed


class DrawnEnv(Probe):
    """Draws its clock: a picture whose brightness is the step; episodes of 6 steps."""

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, render_mode=None):
        super().__init__()
        self.render_mode = render_mode

    def reward(self, action):
        return float(action[0]) + self.t

    def ending(self):
        return False, self.t >= 6

    def render(self):
        return np.full((5, 7, 3), 40 * self.t, np.uint8)


class BareEnv(Probe):
    def ending(self):
        return False, self.t >= 6


class BrokenEnv(DrawnEnv):
    def render(self):
        raise RuntimeError("no paint")


class TextEnv(DrawnEnv):
    def render(self):
        return "a drawing in words"


@pytest.fixture
def register():
    names = []

    def make(kind):
        name = f"{kind.__name__}-v0"
        names.append(name)
        gym.register(name, kind)
        return name

    yield make
    for name in names:
        del gym.registry[name]


@pytest.fixture(autouse=True)
def no_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture
def no_ffmpeg(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    model = SAC("Pendulum-v1", net_arch=(8, 8), batch_size=8, learning_starts=10, buffer_size=100).learn(20)
    model.save(path)
    model.close()
    return path


@pytest.fixture
def run(register, tmp_path):
    """A saved model of an environment class."""

    def make(kind):
        path = tmp_path / "run"
        trained(register(kind), 20).save(path)
        return path

    return make


def fake_ffmpeg(folder, script):
    file = folder / "ffmpeg"
    file.write_text(f"#!{sys.executable}\n{script}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


# --------------------------------------------------------------------------- the command


def test_a_film_of_pendulum(pendulum, tmp_path, capsys):
    file = tmp_path / "film.gif"
    assert main(["enjoy", str(pendulum), "--video", str(file)]) == 0
    episode, place = capsys.readouterr().out.splitlines()
    assert episode.startswith("episode    0  return")
    assert episode.endswith("length    200")
    assert place == f"film  {file}  (201 pictures, 30 a second)"
    with Image.open(file) as image:
        assert (image.n_frames, image.size) == (201, (500, 500))
        durations = []
        for i in range(image.n_frames):
            image.seek(i)
            durations.append(image.info["duration"])
        assert sum(durations) == 6_700  # 201 frames at 30 a second
        assert set(durations) == {30, 40}
    assert [p.name for p in tmp_path.iterdir()] == ["film.gif"]


def test_the_pictures_and_the_default_place(run, capsys, no_ffmpeg):
    path = run(DrawnEnv)
    assert main(["enjoy", str(path), "--video", "--n-episodes", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in out[:2]] == ["0", "1"]
    file = path / "videos" / "step-000000020.gif"
    assert out[2] == f"film  {file}  (14 pictures, 20 a second)"
    with Image.open(file) as image:
        shades = []
        for i in range(image.n_frames):
            image.seek(i)
            shades.append(int(np.asarray(image.convert("RGB")).mean()))
    assert shades == [0, 40, 80, 120, 160, 200, 240] * 2


def test_the_episodes_are_those_of_eval(run, tmp_path, capsys):
    path = str(run(DrawnEnv))
    for flags in ([], ["--stochastic"]):
        assert main(["eval", path, "--n-eval-episodes", "1", "--seed", "3", *flags]) == 0
        evaluated = capsys.readouterr().out.splitlines()[0]
        assert main(["enjoy", path, "--video", str(tmp_path / "f.gif"), "--seed", "3", *flags]) == 0
        assert capsys.readouterr().out.splitlines()[0] == evaluated


def test_a_window_is_left_to_the_environment(run, monkeypatch, capsys):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(DrawnEnv, "render", lambda self: pytest.fail("drawn twice"))
    assert main(["enjoy", str(run(DrawnEnv))]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_an_interrupted_film_is_kept(run, monkeypatch, tmp_path, capsys):
    path = run(DrawnEnv)
    drawn = DrawnEnv.render

    def render(self):
        if self.t == 3:
            signal.raise_signal(signal.SIGINT)
        return drawn(self)

    monkeypatch.setattr(DrawnEnv, "render", render)
    assert main(["enjoy", str(path), "--video", str(tmp_path / "f.gif")]) == 130
    assert capsys.readouterr().out == f"film  {tmp_path / 'f.gif'}  (4 pictures, 20 a second)\n"
    with Image.open(tmp_path / "f.gif") as image:
        assert image.n_frames == 4


def test_no_display_and_no_film(pendulum, capsys):
    assert main(["enjoy", str(pendulum)]) == 2
    assert capsys.readouterr().err == (
        "softac: there is no display here (DISPLAY and WAYLAND_DISPLAY are not set); expected one for a window; "
        f"film instead: softac enjoy {pendulum} --video\n"
    )


def test_an_environment_that_does_not_draw(run, capsys):
    assert main(["enjoy", str(run(BareEnv)), "--video", "f.gif"]) == 2
    err = capsys.readouterr().err
    assert "BareEnv-v0 does not draw itself (its render modes: none); expected rgb_array among them; add it" in err


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (BrokenEnv, "BrokenEnv-v0 raised RuntimeError: no paint in render; expected a picture; correct the env"),
        (TextEnv, "the environment drew str; expected a picture, uint8 [height, width, 3]; correct its render me"),
    ],
)
def test_an_environment_that_fails_to_draw(kind, text, run, capsys, tmp_path):
    assert main(["enjoy", str(run(kind)), "--video", str(tmp_path / "f.gif")]) == 4
    assert text in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_mujoco_without_egl():
    class Env(DrawnEnv):
        __module__ = "gymnasium.envs.mujoco.some"

        def render(self):
            raise RuntimeError("no OpenGL platform library")

    with pytest.raises(ConfigError, match=r"MuJoCo cannot draw X without a display here .*; install them"):
        rendering.draw("X", Env())


@pytest.mark.parametrize("n", ["0", "-1", "some", "1.5"])
def test_a_number_of_episodes_that_is_none(n, pendulum, capsys):
    assert main(["enjoy", str(pendulum), "--video", "f.gif", f"--n-episodes={n}"]) == 2
    assert capsys.readouterr().err == (
        f"softac: --n-episodes {n} was given; expected a whole number, at least 1; leave it out for 1\n"
    )


# --------------------------------------------------------------------------- files


def frames(n, height=4, width=6):
    return [np.full((height, width, 3), 5 * i, np.uint8) for i in range(n)]


def write(path, pictures, fps=10):
    with film(path, fps) as making:
        for picture in pictures:
            making.add(picture)


def test_an_unknown_ending(tmp_path):
    with pytest.raises(
        ConfigError, match=r"f\.avi was given for a film; expected a name that ends in \.mp4 or \.gif; rename it"
    ):
        write(tmp_path / "f.avi", frames(1))


def test_an_mp4_without_ffmpeg(tmp_path, no_ffmpeg):
    with pytest.raises(ConfigError, match=r"ffmpeg is not installed; .*; install it \(apt .*\), or name a f\.gif"):
        write(tmp_path / "f.mp4", frames(1))


def test_imageio_ffmpeg_stands_in(monkeypatch, tmp_path, no_ffmpeg):
    stand_in = type(sys)("imageio_ffmpeg")
    stand_in.get_ffmpeg_exe = lambda: "/opt/its-own-ffmpeg"
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", stand_in)
    assert find_ffmpeg() == "/opt/its-own-ffmpeg"


@pytest.mark.parametrize("path", ["missing/f.gif", "folder.gif"])
def test_a_file_that_cannot_be_written(path, tmp_path):
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(DiskError, match=r"cannot be written \(.+\); expected a folder that exists, .*; choo"):
        write(tmp_path / path, frames(1))


@pytest.mark.parametrize("size", [4, 300])
def test_a_full_disk(size, tmp_path, monkeypatch):
    opened = Path.open

    def full(self, *arguments):
        return opened(Path("/dev/full") if self.name.startswith(".tmp-") else self, *arguments)

    monkeypatch.setattr(Path, "open", full)
    noise = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    with pytest.raises(DiskError, match=r"f\.gif cannot be written \(No space left on device\); expected"):
        write(tmp_path / "f.gif", [noise])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_film_that_failed(tmp_path):
    (tmp_path / "f.gif").write_bytes(b"an older film")
    with pytest.raises(EnvironmentFailed, match="the environment drew NoneType"):
        write(tmp_path / "f.gif", [*frames(2), None])
    assert [p.name for p in tmp_path.iterdir()] == ["f.gif"]
    assert (tmp_path / "f.gif").read_bytes() == b"an older film"


def test_two_sizes(tmp_path):
    with pytest.raises(EnvironmentFailed, match=r"a picture of \(8, 6\) after one of \(4, 6\); expected one size"):
        write(tmp_path / "f.gif", frames(1) + frames(1, height=8))


def test_a_gif_plays_at_most_50_frames_a_second(tmp_path):
    write(tmp_path / "f.gif", frames(25), fps=125)
    with Image.open(tmp_path / "f.gif") as image:
        assert image.n_frames == 9  # every third
        assert image.info["duration"] == 20


PIPE = """
import pathlib, sys
pathlib.Path(sys.argv[-1]).write_bytes(b"film" + sys.stdin.buffer.read())
pathlib.Path(sys.argv[-1]).with_name("arguments").write_text(" ".join(sys.argv[1:-1]))
"""


def test_frames_go_through_ffmpeg(tmp_path, monkeypatch):
    fake_ffmpeg(tmp_path, PIPE)
    monkeypatch.setenv("PATH", str(tmp_path))
    pictures = frames(3)
    write(tmp_path / "f.mp4", pictures, fps=12)
    assert (tmp_path / "f.mp4").read_bytes() == b"film" + b"".join(p.tobytes() for p in pictures)
    arguments = (tmp_path / "arguments").read_text()
    assert "-f rawvideo -pix_fmt rgb24 -s 6x4 -r 12 -i -" in arguments
    assert "-pix_fmt yuv420p" in arguments
    assert sorted(p.name for p in tmp_path.iterdir()) == ["arguments", "f.mp4", "ffmpeg"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import sys; sys.exit('no encoder for that')", "no encoder for that"),
        ("import sys; sys.stdin.buffer.read(); sys.exit(3)", "exit code 3"),
    ],
)
def test_an_ffmpeg_that_stops(script, why, tmp_path, monkeypatch):
    fake_ffmpeg(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DiskError, match=rf"ffmpeg stopped before the film was done \({why}\); .*; see that"):
        write(tmp_path / "f.mp4", frames(40, 200, 200))
    assert [p.name for p in tmp_path.iterdir()] == ["ffmpeg"]


def test_no_film_is_written_through_a_link(run, tmp_path, capsys):
    path = run(DrawnEnv)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (path / "videos").symlink_to(elsewhere)
    assert main(["enjoy", str(path), "--video"]) == 2
    assert capsys.readouterr().err == (
        f"softac: {path / 'videos'} is a link; expected a file or folder of its own, since it is written to and "
        "old things in it are deleted; put what it leads to in its place\n"
    )
    assert list(elsewhere.iterdir()) == []

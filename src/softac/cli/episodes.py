"""How played episodes look: a line for each, and the figures of all."""

from softac.run.evaluate import Returns, success_rate

ENDED = {None: "", True: "  success", False: "  failure"}


def show_episodes(returns: Returns) -> None:
    """Print return, length and, where the environment tells it, success of each episode."""
    episodes = zip(returns.returns, returns.lengths, returns.successes, strict=True)
    for i, (total, length, success) in enumerate(episodes):
        print(f"episode {i:>4}  return {total:>12,.3f}  length {length:>6,}{ENDED[success]}")  # noqa: T201


def summary(returns: Returns) -> str:
    """Mean and standard deviation of the returns, and the share of successes where there are any."""
    rate = success_rate("success", returns.successes)
    share = f"  success {100 * rate['success']:.0f} %" if rate else ""
    return f"mean {returns.mean:,.3f}  std {returns.std:,.3f}{share}"

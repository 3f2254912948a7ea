from collections.abc import Callable, Sequence

from sofa_registry_adapters.events import Event, RegistrationLost
from sofa_registry_adapters.spi.hooks import hookimpl


def report(lost: RegistrationLost) -> None:
    """Say which service was lost."""
    print(f"{lost.service} was lost, and is published again: {lost.reason}")


@hookimpl
def sofa_registry_listeners() -> Sequence[tuple[type[Event], Callable[..., object]]]:
    """Listen to losses."""
    return [(RegistrationLost, report)]

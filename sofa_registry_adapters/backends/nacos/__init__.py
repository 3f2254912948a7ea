"""Nacos 2 and 3, spoken to in its own protocol (gRPC).

::

    nacos://[user:password@]host[:port][,host[:port]…][/namespace][?option=value&…]
    nacoss://…      the same over TLS, the server's certificate and name always verified

A service is a Nacos service in the group of the option ``group``; its name is the key in its text form, where Nacos takes that. What an
instance says beyond Nacos' own fields is in its metadata, under keys that begin with ``sofa.``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from sofa_registry_adapters.backends.grpc_loading import load_grpc
from sofa_registry_adapters.errors import InvalidURL, MissingDependency
from sofa_registry_adapters.spi.clock import Clock
from sofa_registry_adapters.spi.options import BackendType, Capabilities, Option, Target, tls_options
from sofa_registry_adapters.spi.registry import RegistryBackend

PUSH_DELAY = 0.5
"""Seconds for which a server collects changes of a service before it tells anybody, unless it is set up otherwise."""
PUSH_SPREAD = 0.3
"""Seconds that this may take in addition: it looks ten times a second whether there is something to tell."""

CAPABILITIES = Capabilities(
    liveness="session",
    notices_death_at_once=True,
    notices_death_within=1.0,
    notices_silence_within=30.0,
    detects_loss_within=2.0,
    visible_within=PUSH_DELAY + PUSH_SPREAD,
    max_value_bytes=1024,
    max_config_bytes=1_048_576,
    binary_config=False,
    blank_config=False,
    survives_fork=False,
)

CONSIDERATIONS = """\
Nacos tells of a change half a second after it was made, and until then every read shows what was before, one's own included: with
nacos.naming.push.pushTaskDelay=50 in the server's application.properties it is a tenth of a second; tell that with push_delay=50ms. A withdrawn
instance stays marked until all have been told, 0.8 s by default. Lists come whole: a change among ten thousand instances costs the network
all ten thousand. The metadata of an instance has at most 1 024 characters, some 60 of which this library needs. What one process publishes under
one service has at most 10 MB. Instances are ephemeral and live as long as their connection: those of a killed process vanish at once, those of one that hangs
after 20 to 30 s, but Nacos 2.2 keeps them until TCP gives up. An instance that is disabled or leaving is written with the weight 0 and unhealthy, since Nacos lists no disabled ones; unhealthy ones of
other clients are read as disabled. The zone is Nacos' cluster, a weight of 100 is Nacos' 1.0. Several publishers of one id are all listed: consumers of
this library take the one that started last, others see both; the older one notices it within some seconds, with many or large services later. A namespace is named by its id
and need not exist: the console shows it once it was created. Services of other clients are found if their name has at most two colons. A user needs
read and write permission for the namespace; whoever only looks up needs to read.
With client=sdk nacos-sdk-python speaks to the servers: then a call that raised may be applied up to half a minute later, a service whose list has more than 4 MB
ends the connection again and again, TLS is not to be had, and an older publisher does not learn of a newer one.
Configuration: a value is text of at most 1 MiB, and not blank. Keys and groups may be any text: what Nacos does not take is written in hexadecimal digits, so
a key is refused that becomes longer than 255 characters. Values are read from Nacos' database over HTTP, and every write shows at once; listeners are told a tenth
of a second later. A server of line 3 without accounts for its clients may still want one for that (nacos.core.auth.admin.enabled, which is on by itself): then
values are read from its copy, publish takes a tenth of a second, equal content published again keeps its revision, and there are no lists and no histories. The server compares
digests of the content: that a value went and came back, or was removed, in the milliseconds before a conditional write is not noticed, nor is any change
before a conditional removal. With MySQL times have whole seconds, and on line 2 the revisions of equal contents, too. Nacos keeps histories for thirty days; on line 2 with the embedded
database they may list a value twice that was written while another writer's condition failed. Marks of this library are beside its values, in the columns encrypted_data_key
(never where the data id begins with cipher-), schema and src_user."""

_NAMESPACE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_GROUP = re.compile(r"[A-Za-z0-9_:.-]{1,128}")


def namespace(target: Target) -> str:
    """The id of the namespace, from the URL's path or the option; ``public`` where there is none. Raises `InvalidURL`."""
    in_path, in_option = target.path.strip("/"), target.text("namespace")
    if in_path and in_option and in_path != in_option:
        raise InvalidURL(f"{target} names the namespace {in_path!r}, and the option namespace {in_option!r}: keep one")
    found = in_path or in_option or "public"
    if not _NAMESPACE.fullmatch(found):
        raise InvalidURL(
            f"{found!r} is no id of a Nacos namespace: 1 to 64 letters, digits, '-' and '_' "
            "(the console shows the id beside the name)"
        )
    return found


def capabilities(target: Target) -> Capabilities:
    """What the servers can do, whose push delay the options tell, through the client that is asked for."""
    return msgspec.structs.replace(
        CAPABILITIES,
        visible_within=target.number("push_delay") + PUSH_SPREAD,
        compare_and_set=target.text("client") != "sdk",
    )


def _check(target: Target) -> None:
    namespace(target)
    if not _GROUP.fullmatch(target.text("group")):
        raise InvalidURL(f"the option group is 1 to 128 letters, digits and '-_:.', not {target.text('group')!r}")
    if target.text("client") == "sdk" and target.scheme == "nacoss":
        raise InvalidURL("nacoss:// speaks TLS, which client=sdk cannot: leave that option out")


def _load() -> Callable[..., object]:
    load_grpc()
    from sofa_registry_adapters.backends.nacos.registry import NacosRegistry

    def make(target: Target, clock: Clock) -> RegistryBackend:
        return _sdk(target, clock) if target.text("client") == "sdk" else NacosRegistry(target, clock)

    return make


def _sdk(target: Target, clock: Clock) -> RegistryBackend:
    try:
        from sofa_registry_adapters.backends.nacos.sdk import SdkRegistry
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "v2":
            raise
        raise MissingDependency(
            "nacos://…?client=sdk needs nacos-sdk-python, which is not installed: "
            "pip install 'sofa-registry-adapters[nacos-sdk]'"
        ) from None
    return SdkRegistry(target, clock)


def _load_config() -> Callable[..., object]:
    load_grpc()
    from sofa_registry_adapters.backends.nacos.config import NacosConfig

    return NacosConfig


BACKEND = BackendType(
    schemes=("nacos", "nacoss"),
    summary="Nacos 2.0 and later, Nacos 3",
    grammar="nacos://[user:password@]host[:8848][,host[:port]…][/namespace]",
    considerations=CONSIDERATIONS,
    capabilities=CAPABILITIES,
    load=_load,
    load_config=_load_config,
    store=False,
    options=(
        Option(
            name="group",
            kind="text",
            default="DEFAULT_GROUP",
            meaning="the Nacos group that all services of this Registry are in",
        ),
        Option(
            name="client",
            kind="text",
            default="grpc",
            choices=("grpc", "sdk"),
            meaning="what speaks to the servers: this library itself, or nacos-sdk-python, which keeps fewer promises; for services only",
        ),
        Option(
            name="push_delay",
            kind="seconds",
            default=PUSH_DELAY,
            least=0,
            most=60,
            meaning="what the servers have as nacos.naming.push.pushTaskDelay",
        ),
        Option(
            name="context",
            kind="text",
            default="/nacos",
            meaning="the path under which the server has its HTTP interface, asked for logins and for configuration",
        ),
        Option(
            name="grpc_offset",
            kind="whole",
            default=1000,
            least=-65535,
            most=65535,
            meaning="what is added to a server's port to get its port for gRPC",
        ),
        Option(
            name="login_tls",
            kind="flag",
            default=True,
            meaning="with nacoss://: use HTTPS, too",
        ),
        *tls_options(),
    ),
    extra="nacos",
    libraries=("grpc",),
    default_port=8848,
    check=_check,
    tls=("nacoss",),
    tuned=capabilities,
)

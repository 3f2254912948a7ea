"""The reference of the URL, the file and the variables."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from sofa_registry_adapters import advertise, settings
from sofa_registry_adapters import named as naming
from sofa_registry_adapters.cli import app as application
from sofa_registry_adapters.cli import reference

from generating.backends import ours, schemes
from generating.markdown import NOTICE, table

URL_EXAMPLES = (
    "memory://orders",
    "local://",
    "local:///var/lib/sofa/registry.db",
    "redis://user:p%40ss@registry.example/1?lease=5s&namespace=shop",
    "rediss://[2001:db8::7]:6380?ca=/etc/ssl/registry.pem",
    "redis+sentinel://user:p%40ss@sentinel1.example,sentinel2.example,sentinel3.example/main",
    "redis+cluster://redis1.example:7000,redis2.example:7000/shop",
    "etcd://user:p%40ss@etcd1.example,etcd2.example,etcd3.example/sofa",
    "zookeeper://zk1.example,zk2.example,zk3.example:2182/sofa",
)


def url_page() -> str:
    """The reference of the URL, the file and the variables."""
    head, _, grammar = (settings.__doc__ or "").partition("::\n")
    form, _, rules = inspect.cleandoc(grammar).strip().partition("\n\n")
    forms = "".join(f"{form.strip()}\n" for one in ours() for form in one.grammar.split(" | "))
    ports = ", ".join(f"{schemes(one)} {one.default_port}" for one in ours() if one.default_port)
    return (
        f"# URL and environment\n\n{NOTICE}{head.strip()}\n\n```\n{form.strip()}\n```\n\n{rules}\n\n"
        "What stands before `@` is cut at the first `:`. Write `/` as `%2F`, `?` as `%3F`, `@` as `%40` and `:` as `%3A` in "
        "a user name or a password. An IPv6 host has brackets. Options: [the tables](options.md).\n\n"
        f"## Forms\n\n```\n{forms}```\n\nWithout a port: {ports}.\n\n"
        f"## Examples, as they are read\n\n```\n{''.join(_url_examples())}```\n\n"
        "## Where the URL comes from\n\nThe first of these that there is:\n\n"
        f"1. the argument: `Registry(url)`, or `--url`\n2. the variable `{naming.URL_VARIABLE}`\n"
        f"3. `[registry.default]` in the file `{naming.FILE_NAME}`\n4. `{naming.DEFAULT_URL}`\n\n"
        f"Text without `://` is a name, whose URL is in [the file](file.md) or in a variable of its own: "
        '`Registry("orders")`, or `--url orders`. For a `ConfigCenter` it is the same with `[config.default]` and '
        f"`{naming.CONFIG_URL_VARIABLE}`; one that is not named anywhere is where the registry is.\n\n"
        f"## Variables\n\n{table(('variable', 'meaning'), _variables())}"
    )


def _url_examples() -> Iterator[str]:
    for url in URL_EXAMPLES:
        target = settings.parse_target(url, reference.backend_named(url))
        given = [pair.partition("=")[0] for pair in url.partition("?")[2].split("&") if pair]
        parts = {
            "servers": ", ".join(f"{one.host} port {one.port}" for one in target.addresses),
            "path": target.path,
            "user": target.username,
            "password": target.password,
            "options": ", ".join(f"{name} {reference.value_text(target.options[name])}" for name in given),
            "in messages": str(target) if str(target) != url else "",
        }
        lines = (f"    {name:<12} {value}\n" for name, value in parts.items() if value)
        yield f"{url}\n{''.join(lines)}"


def _variables() -> tuple[tuple[str, str], ...]:
    return (
        (f"`{naming.URL_VARIABLE}`", "where the registry is, or its name, if the program does not say"),
        (f"`{naming.CONFIG_URL_VARIABLE}`", "the same of the configuration center"),
        (
            f"`{naming.variable_of('registry', 'orders')}`, `{naming.variable_of('config', 'orders')}`",
            f"where the one called `orders` is, whatever `{naming.FILE_NAME}` says",
        ),
        (f"`{naming.FILE_VARIABLE}`", f"the file to read instead of `{naming.FILE_NAME}` in the working directory"),
        (f"`{advertise.VARIABLE}`", "the host that `publish(service, port=…)` publishes: for containers and NAT"),
        (f"`{application.TRACEBACK_VARIABLE}`", "set: the command line shows where a defect happened"),
    )

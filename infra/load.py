"""Environment, settings file and secret files become one ``Settings``, and each value remembers where it came from.

This is the only place that reads configuration. What wins: a variable ``DEPESCHE_<GROUP>__<NAME>``, then (for secrets) the
file named by ``DEPESCHE_<GROUP>__<NAME>_FILE``, then the TOML file, then what the sandbox implies, then the default. A typing
error in a variable's name is the commonest set-up fault and otherwise silent, so unknown ones are named with a suggestion.
"""

from __future__ import annotations

import difflib
import os
import tomllib
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from depesche.infra.local.zone import RETURNS_DOMAIN
from depesche.schemas.errors import SetupError
from depesche.schemas.settings import Settings

PREFIX = "DEPESCHE_"
SETTINGS_FILE = "depesche.toml"
#: Under home: the password that ``depesche up`` makes for the embedded engine.
CLICKHOUSE_PASSWORD_FILE = Path("keys", "clickhouse-password")
#: Variables with our prefix that are not settings.
OTHER_VARIABLES: Mapping[str, str] = {
    "DEPESCHE_CONFIG": "The settings file; default: depesche.toml in the home directory.",
    "DEPESCHE_PROFILE": "Directory into which each process writes NAME.pstats when it ends.",
    "DEPESCHE_CRASHPOINT": "Where a process shall die; see crash points below.",
    "DEPESCHE_API_KEY": "Key that `depesche send` uses; default: the demo's.",
    "DEPESCHE_TENANT": "Customer number that commands mean when none is given; default: the demo's.",
}
#: A port of somebody else's machines does not move with ours.
_NOT_OUR_PORTS = ("deliver.port", "tls.sts_port")


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its path (``kafka.port``) and what the shape says about it."""

    path: str
    field: FieldInfo

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return PREFIX + self.path.replace(".", "__").upper()

    @property
    def secret(self) -> bool:
        """Whether its value must never be shown."""
        return self.field.annotation is SecretStr

    @property
    def is_port(self) -> bool:
        """Whether it is a port that ``port_offset`` moves."""
        name = self.path.rpartition(".")[2]
        return (name == "port" or name.endswith("_port")) and self.path not in _NOT_OUR_PORTS


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings with their history.

    Attributes:
        settings: what is in force.
        sources: where each value came from, by path; a path that is missing has its default.
        warnings: sentences for the operator.
    """

    settings: Settings
    sources: Mapping[str, str]
    warnings: tuple[str, ...]

    def value(self, path: str) -> Any:
        """The value in force of the setting ``path``."""
        found: Any = self.settings
        for name in path.split("."):
            found = getattr(found, name)
        return found

    def source(self, path: str) -> str:
        """Where that value came from."""
        return self.sources.get(path, "default")


def all_settings() -> tuple[Setting, ...]:
    """Every setting in the order of the shape."""
    return tuple(_walk(Settings, ""))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    hints = typing.get_type_hints(model)
    for name, field in model.model_fields.items():
        kind = hints[name]
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _walk(kind, f"{prefix}{name}.")
        else:
            yield Setting(prefix + name, field)


def checkout() -> Path | None:
    """The root of the source tree this code runs from, or None when it is installed."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() and (root / "infra" / "load.py").is_file() else None


def load(environ: Mapping[str, str] | None = None) -> Loaded:
    """Read everything and check it.

    Args:
        environ: the environment; the process's own by default.

    Raises:
        SetupError: a value is malformed or refused, or a file cannot be read; names each wrong one with its source.
    """
    environ = os.environ if environ is None else environ
    known = {setting.variable: setting for setting in all_settings()}
    values: dict[str, tuple[Any, str]] = {}
    file = _settings_file(environ)
    if file is not None:
        values.update(_from_toml(file))
    values.update(_from_secret_files(environ))
    values.update(_from_environment(environ, known))
    home, source = values.get("home", (_default_home(), "default"))
    values["home"] = (Path(str(home)).expanduser().absolute(), source)
    settings = _shaped(values)
    implied = _implied(settings, set(values))
    settings = _shaped({**values, **implied})
    sources = {path: source for path, (_, source) in {**values, **implied}.items() if source != "default"}
    _refuse_local_ways_in_production(settings)
    return Loaded(settings, sources, tuple(_unknown(environ, known)))


def profile_directory(environ: Mapping[str, str] | None = None) -> Path | None:
    """Where each process shall write a profile of its life (``DEPESCHE_PROFILE``); None: no profiling."""
    named = (os.environ if environ is None else environ).get("DEPESCHE_PROFILE")
    return Path(named).expanduser().absolute() if named else None


def _default_home() -> Path:
    return (checkout() or Path.cwd()) / ".depesche"


def _settings_file(environ: Mapping[str, str]) -> Path | None:
    named = environ.get("DEPESCHE_CONFIG")
    if named:
        file = Path(named).expanduser()
        if not file.is_file():
            raise SetupError(f"The settings file {file} does not exist.", fix="Correct DEPESCHE_CONFIG or unset it.")
        return file
    home = environ.get("DEPESCHE_HOME")
    file = (Path(home).expanduser() if home else _default_home()) / SETTINGS_FILE
    return file if file.is_file() else None


def _from_toml(file: Path) -> dict[str, tuple[Any, str]]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise SetupError(f"The settings file {file} cannot be read: {fault}.", fix="Correct that line.") from fault
    return {path: (value, str(file)) for path, value in _flattened(content, "")}


def _flattened(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _from_secret_files(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for setting in all_settings():
        name = environ.get(f"{setting.variable}_FILE")
        if not setting.secret or not name:
            continue
        try:
            found[setting.path] = (Path(name).read_text("utf-8").strip(), f"{setting.variable}_FILE ({name})")
        except (OSError, ValueError) as fault:
            raise SetupError(
                f"The secret file {name} cannot be read: {fault}.",
                fix=f"Correct {setting.variable}_FILE or the file's rights.",
            ) from fault
    return found


class _Variables(EnvSettingsSource):
    """pydantic-settings' reading of nested variables; a list may also be written with commas."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        if isinstance(value, str) and not value.lstrip().startswith(("[", "{")):
            return [item.strip() for item in value.split(",") if item.strip()]
        return orjson.loads(value)


class _EnvironmentShape(Settings, BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="ignore")


def _from_environment(environ: Mapping[str, str], known: Mapping[str, Setting]) -> dict[str, tuple[Any, str]]:
    source = _Variables(_EnvironmentShape)
    # An empty variable is one that is not set, except where text may be empty.
    given = {name: value for name, value in environ.items() if name in known}
    text = {name for name in given if known[name].field.annotation in (str, SecretStr)}
    source.env_vars = {name.lower(): value for name, value in given.items() if value or name in text}
    try:
        content = source()
    except ValueError as fault:
        raise SetupError(f"A list in the environment is malformed: {fault}.", fix="Write it as a,b,c.") from fault
    return {path: (value, PREFIX + path.replace(".", "__").upper()) for path, value in _flattened(content, "")}


def _shaped(values: Mapping[str, tuple[Any, str]]) -> Settings:
    nested: dict[str, Any] = {}
    for path, (value, _) in values.items():
        group, _, name = path.rpartition(".")
        target = nested
        for step in group.split(".") if group else ():
            target = target.setdefault(step, {})
            if not isinstance(target, dict):
                raise SetupError(f"{group} is a group of settings, not a value.", fix=f"Write [{group}] above it.")
        target[name] = value
    try:
        return Settings.model_validate(nested)
    except ValidationError as fault:
        lines = [_complaint(dict(error), values) for error in fault.errors()]
        raise SetupError(
            "The configuration is not valid: " + "; ".join(lines) + ".",
            fix="`depesche config reference` explains each setting.",
        ) from fault


def _complaint(error: Mapping[str, Any], values: Mapping[str, tuple[Any, str]]) -> str:
    path = ".".join(str(step) for step in error["loc"])
    names = [setting.path for setting in all_settings()]
    owner = next((name for name in names if path == name or path.startswith(name + ".")), path)
    source = values.get(owner, ("", ""))[1]
    origin = f" (from {source})" if source else ""
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path, names, 1)
        return f"{path}{origin} is no setting" + (f", did you mean {near[0]}?" if near else "")
    return f"{owner}{origin}: {str(error['msg'])[:1].lower()}{str(error['msg'])[1:]}"


def _implied(settings: Settings, given: set[str]) -> dict[str, tuple[Any, str]]:
    """What follows from other settings: moved ports, and in the sandbox the way to the far side on this machine."""
    offset = settings.port_offset
    moved: dict[str, tuple[Any, str]] = {}
    ports: dict[str, int] = {}
    for setting in all_settings():
        if not setting.is_port:
            continue
        group, _, name = setting.path.rpartition(".")
        port = getattr(getattr(settings, group) if group else settings, name)
        if offset and port and setting.path not in given:
            port += offset
            moved[setting.path] = (port, f"default + port_offset {offset}")
        ports[setting.path] = port
    _refuse_impossible_ports(ports)
    password = settings.home / CLICKHOUSE_PASSWORD_FILE
    if not settings.clickhouse.url and "clickhouse.password" not in given and password.is_file():
        moved["clickhouse.password"] = (password.read_text("utf-8").strip(), f"self-made ({password})")
    if settings.sandbox.enabled:
        sandbox = {
            "deliver.port": ports["sandbox.smtp_port"],
            "deliver.allow_private": True,
            "dns.servers": [f"127.0.0.1:{ports['sandbox.dns_port']}"],
            "dnsbl.zones": [],
            "returns.domain": RETURNS_DOMAIN,
        }
        moved.update({path: (value, "sandbox") for path, value in sandbox.items() if path not in given})
    return moved


def _refuse_impossible_ports(ports: Mapping[str, int]) -> None:
    for path, port in ports.items():
        if not 0 <= port <= 65535:
            raise SetupError(
                f"{path} would be {port}, which is no port.", fix="Choose 1 to 65535, or a smaller port_offset."
            )
    taken: dict[int, str] = {}
    for path, port in ports.items():
        if port and port in taken:
            raise SetupError(f"{path} and {taken[port]} are both {port}.", fix="Give one of them another port.")
        taken[port] = path


def _refuse_local_ways_in_production(settings: Settings) -> None:
    if settings.environment != "production":
        return
    wrong = []
    if settings.sandbox.enabled:
        wrong.append("sandbox.enabled must be false: mail would go to the sandbox instead of the world")
    if settings.deliver.allow_private:
        wrong.append("deliver.allow_private must be false: customers could reach inner machines")
    if settings.master_key_file is None:
        wrong.append("master_key_file must be set: a self-made key would lie beside the data it protects")
    if settings.smtp.certificate is None or settings.smtp.private_key is None:
        wrong.append("smtp.certificate and smtp.private_key must be set: nobody trusts a self-made certificate")
    if settings.clickhouse.url and not settings.clickhouse.password.get_secret_value():
        wrong.append("clickhouse.password must be set")
    if not settings.archive.fsync:
        wrong.append("archive.fsync must be true: a door would say yes for bytes that a power cut takes away")
    if wrong:
        raise SetupError(
            "environment is production, but " + "; ".join(wrong) + ".",
            fix="Set these, or leave environment at local. `depesche config show` tells where each value comes from.",
        )


def _unknown(environ: Mapping[str, str], known: Mapping[str, Setting]) -> Iterator[str]:
    allowed = {*known, *OTHER_VARIABLES, *(f"{name}_FILE" for name, setting in known.items() if setting.secret)}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in allowed:
            near = difflib.get_close_matches(name, sorted(allowed), 1)
            hint = f"did you mean {near[0]}?" if near else "`depesche config reference` lists all."
            yield f"{name} is set but is no setting; {hint}"

"""Refuses the statements that would harm the embedded engine's directory or let SQL out of it.

Creating a table with the Kafka engine fails in the embedded engine but leaves its definition behind, and from then on
the directory cannot be opened any more. The other connectors are refused with it, and so is whatever reads or writes
files, starts programs or opens connections: this engine keeps our history, and does nothing else.
"""

from collections.abc import Sequence

from depesche.infra.local.engine_errors import EngineError
from depesche.infra.local.engine_statement import Statement, Token

CONNECTORS = frozenset(
    {"kafka", "rabbitmq", "nats", "s3queue", "azurequeue", "filelog", "executable", "executablepool"}
    | {"materializedpostgresql"}
)
"""Table engines (lower case) that read from outside on their own account; some of them brick the directory."""

FUNCTIONS = frozenset(
    {"file", "filecluster", "executable", "python", "sqlite"}
    | {"url", "urlcluster", "http", "remote", "remotesecure", "cluster", "clusterallreplicas", "arrowflight"}
    | {"s3", "s3cluster", "gcs", "hdfs", "hdfscluster", "azureblobstorage", "deltalake", "iceberg", "hudi"}
    | {"mysql", "postgresql", "mongodb", "redis", "jdbc", "odbc"}
)
"""Table functions, engines and dictionary sources (lower case) that reach files, programs or other machines."""

_STOPPING = ("SHUTDOWN", "KILL", "SUSPEND")
"""What SYSTEM must not do: the engine sends the signal to its whole group of processes."""

_DEFINING = ("CREATE", "ATTACH", "REPLACE", "ALTER", "RESTORE", "BACKUP")


def guard(statement: Statement) -> None:
    """Raise EngineError (344, SUPPORT_IS_DISABLED) when the statement must not reach the engine."""
    tokens = statement.tokens
    if statement.verb == "SYSTEM" and any(token.says(*_STOPPING) for token in tokens):
        _refuse("Stopping the engine by a statement")
    for index, token in enumerate(tokens):
        if token.kind in ("word", "quoted"):
            _check_engine(tokens, index)
            _check_function(tokens, index)
            _check_files(tokens, index)


def _check_engine(tokens: Sequence[Token], index: int) -> None:
    if tokens[index].kind != "word" or tokens[index].text.upper() != "ENGINE":
        return
    # The next name, whatever stands before it: what we take for a sign, the engine may take for a blank.
    name = next((token.text for token in tokens[index + 1 :] if token.kind in ("word", "quoted")), "")
    if name.lower() in CONNECTORS or name.lower() in FUNCTIONS:
        _refuse(f"The table engine {name}")


def _check_function(tokens: Sequence[Token], index: int) -> None:
    if index + 1 == len(tokens) or tokens[index + 1].text != "(" or tokens[index].text.lower() not in FUNCTIONS:
        return
    # Tables and columns may well be called `url` or `file`: after these words a name with a bracket is a definition.
    before = tokens[index - 1].text.upper() if index else ""
    if tokens[0].says("INSERT", *_DEFINING) and before in ("INTO", "TABLE", "VIEW", "DICTIONARY", "EXISTS", "TO", "."):
        return
    _refuse(f"The function {tokens[index].text}")


def _check_files(tokens: Sequence[Token], index: int) -> None:
    if tokens[index].says("OUTFILE") and index and tokens[index - 1].says("INTO"):
        _refuse("INTO OUTFILE")
    if tokens[index].says("INFILE") and index and tokens[index - 1].says("FROM"):
        _refuse("FROM INFILE")


def _refuse(what: str) -> None:
    raise EngineError(
        344,
        "SUPPORT_IS_DISABLED",
        f"{what} is refused by the embedded engine: it works on its own directory only. "
        "Use a ClickHouse server for that; its address is a setting.",
    )

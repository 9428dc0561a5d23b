"""The columns of the tables, as the catalog shows them: their types, and a comment on each."""

from dataclasses import dataclass
from typing import NamedTuple


class Column(NamedTuple):
    """A column: its name, its type in Athena, and what it is."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A table: its folder in the bucket, its columns, and how Athena reads the files."""

    name: str
    folder: str
    description: str
    columns: tuple[Column, ...]
    classification: str = "parquet"
    input_format: str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat"
    output_format: str = "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"
    serde: str = "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"


PARTITION = Column("completed_date", "date", "Date of completed_at, in UTC: name dates, and only they are read")

_CONTACT = (
    Column("instance_id", "string", "The Connect instance"),
    Column("contact_id", "string", "The contact"),
    Column("initial_contact_id", "string", "First contact of its chain, itself when there was no transfer"),
    Column("channel", "string", "VOICE, CHAT, TASK, EMAIL, …"),
    Column("initiation_method", "string", "INBOUND, OUTBOUND, TRANSFER, API, …"),
    Column("completed_at", "timestamp", "When the contact completed, UTC"),
    Column("capture_id", "string", "Names the reading of Connect that this is from"),
    Column("captured_at", "timestamp", "When Connect was read, UTC"),
)
_REFERENCE = (
    Column("reference_id", "string", "Names the reference within its contact, whenever it is read"),
    Column("reference_type", "string", "URL, NUMBER, STRING, DATE, EMAIL, ATTACHMENT, CONTACT_ANALYSIS, …"),
    Column("reference_name", "string", "Its name, as Connect gave it"),
    Column("reference_value", "string", "Its value, as Connect gave it: personal data"),
    Column("canonical_value", "string", "The value in one spelling for each meaning: compare by it"),
    Column("number_value", "decimal(38,9)", "NUMBER only, exact; null where it does not fit: see reference_value"),
    Column("date_value", "timestamp", "DATE only, UTC; a date without a time is its midnight"),
    Column("is_valid", "boolean", "False when the value is not what its type says"),
    Column("arn", "string", "Of attachments and email messages: the file"),
    Column(
        "status", "string", "Of attachments, analyses and email messages: AVAILABLE, APPROVED, PROCESSING, FAILED, …"
    ),
    Column("analytics_mode", "string", "Of contact analyses: PostContact, RealTime, …"),
    Column("is_redacted", "boolean", "Of contact analyses: whether it is the redacted one"),
    Column("raw", "string", "UNKNOWN only: the whole reference as JSON"),
)
_COUNT = Column("reference_count", "int", "How many references the contact has")

CONTACTS = Columns(
    name="contacts",
    folder="contacts",
    description="Completed contacts as they are now, one row each",
    columns=(*_CONTACT, _COUNT),
)
REFERENCES = Columns(
    name="contact_references",
    folder="contact_references",
    description="References of completed contacts as they are now, one row each",
    columns=(*_CONTACT, *_REFERENCE),
)


def _as_text(column: Column) -> Column:
    comments = {"timestamp": "ISO 8601, UTC", "decimal(38,9)": "a decimal number"}
    if column.type not in comments:
        return column
    return Column(column.name, "string", f"{column.comment}; {comments[column.type]}")


CAPTURES = Columns(
    name="captures",
    folder="captures",
    description="The lake, for history: every capture that ever counted, at least once; see docs/data.md",
    columns=(
        Column("schema_version", "int", "2"),
        Column("record_type", "string", "CONTACT, one for each capture, or REFERENCE"),
        *map(_as_text, _CONTACT),
        Column("reference_count", "int", "CONTACT only: how many REFERENCE records the capture has"),
        *map(_as_text, _REFERENCE),
    ),
    classification="json",
    input_format="org.apache.hadoop.mapred.TextInputFormat",
    output_format="org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat",
    serde="org.openx.data.jsonserde.JsonSerDe",
)

RESULTS_FOLDER = "query-results"

FOLDERS = tuple(table.folder for table in (CONTACTS, REFERENCES, CAPTURES))

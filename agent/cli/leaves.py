"""Every field that leaves a device, with what it is for and what it can tell of a person. Written by hand.

``tests/unit/cli/test_privacy_page.py`` compares this with the structs themselves: a field that is added there without an entry here
is a failure, so that somebody has thought about it before it leaves.
"""

from types import UnionType
from typing import NamedTuple

from agent.protocol.enrolment import EnrolmentRequest
from agent.protocol.envelope import Envelope
from agent.protocol.labels import LabelReceipt
from agent.protocol.receipt import Receipt
from agent.protocol.state import Presence, ReportedState
from agent.protocol.telemetry import TelemetryBatch
from agent.protocol.topics import Channel
from agent.protocol.transfer import TransferRequest

CHANNELS: dict[Channel, type | UnionType] = {
    Channel.REPORTED: ReportedState,
    Channel.PRESENCE: Presence,
    Channel.TELEMETRY: TelemetryBatch,
    Channel.REQUEST: TransferRequest,
    Channel.LABELS_ACK: LabelReceipt,
}
"""What is published on each MQTT channel of a device."""

BY_OTHER_WAYS: dict[str, type | UnionType] = {
    "`POST /v1/enrol`, once": EnrolmentRequest,
    "a receipt file, carried by a person": Receipt,
    "the envelope of a receipt": Envelope,
}

MEANINGS = {
    "-": "nothing of a person",
    "device": "which device, and so whoever it is known to belong to or to watch",
    "use": "when and how much a model is used",
    "aggregate": "how many inputs of a window looked how; small counts can be hidden or noised (below)",
    "words": "words: what was written by a person, or names that a person chose, may be in it",
    "person": "a person's name on the device",
    "content": "what was in front of the device: it may show people. Only by an approver's request, if the owner allows it",
    "outcome": "how right the model was, from labels; small counts can be hidden (below)",
    "slice": "a parameter's value as a client sent it: choose parameters that name no person",
}
"""What a field can tell of a person, by the word that stands for it in :data:`LEAVES`."""


class Leaf(NamedTuple):
    purpose: str
    tells: str
    """A key of :data:`MEANINGS`."""


_TEXT = """
ReportedState
  v | form of the message | -
  device | whose state it is | device
  agent_version | which program runs there; for updates and for faults | -
  hardware_class | which budgets hold there | -
  boot | tells one start of the agent from the next | -
  sequence | so that an older report is ignored | -
  time | when it was so; shows a clock that is wrong | -
  held | whether updates are held by somebody at the device | -
  inference_address | where models answer on the device; the hub shows it | -
  serving | what answers requests now | use
  deployments | how far each update is | -
  outbox | the ledger of telemetry: nothing is lost in silence | -
  errors | what was refused or failed, by kind | -
  refusal | why the newest orders were not taken | -
  problems | what is wrong with the device's own memory | -
  trust | until when signatures hold there | -
  traffic | bytes of this month by purpose | use
ServingReport
  model | which model | -
  release | which release of it | -
  variant | which file of the release | -
  artifact | its digest | -
  ready | whether it answers | -
  requests | how many it has answered since its start | use
  failures | of these, the model's own failures | use
  refused | requests of a wrong form | use
  turned_away | requests that were too many at once | use
  p50_ms | latency | -
  p95_ms | latency | -
  p99_ms | latency | -
  memory_mib | memory of its process | -
  drift | level of the newest verdict | aggregate
  drift_rows | rows of that window | use
  service_level | how it stands against what was promised | -
  degraded | why a smaller variant serves, if it does | -
ServiceVerdict
  level | kept or broken | -
  requests | requests it was judged by | use
  p99_ms | latency | -
  failure_rate | share of requests that failed | use
  text | the same in words, made by the agent | -
Reason
  code | stable name of a reason | -
  text | the reason in words; of a hold, a rollback or an acceptance, those that a person at the device gave | words
DeploymentReport
  deployment | which order | -
  model | of which model | -
  release | of which release | -
  phase | how far it is | -
  since | since when | -
  reason | why it ended so | words
  waiting_for | what it waits for | words
  waiting_until | until when | -
  accepted | who let it be installed at the device | person
  measurement | what its probe measured | -
  tried | variants that were refused here | -
  chosen | why this variant | -
  progress | how many bytes are here | -
Acceptance
  by | user name and id of who typed `edgeward accept` | person
  at | when | person
  now | whether without waiting for a window | -
Measurement
  variant | which file was measured | -
  artifact | its digest | -
  size_bytes | its size | -
  p50_ms | latency of the probe's own inputs | -
  p99_ms | as above | -
  peak_memory_mib | memory meanwhile | -
  golden_max_error | difference from the golden outputs | -
  golden_class_agreement | as above | -
  budget_p99_ms | what was allowed | -
  budget_memory_mib | what was allowed | -
  shadow | how it compared on live requests, where that was asked for | use
ShadowFigures
  requests | live requests that were copied to the candidate on the device | use
  rows | their rows | use
  disagreed | rows with another answer | aggregate
  failed | requests that the candidate failed | use
  dropped | copies that were not made | use
  p50_ms | latency | -
  p99_ms | latency | -
  seconds | how long it was compared | -
  text | the same in words, made by the agent | aggregate
TriedVariant
  variant | which file | -
  reason | why it was refused | -
  measurement | what was measured | -
TransferProgress
  done_bytes | of an update | -
  total_bytes | of an update | -
  bytes_per_second | of an update | -
  eta_seconds | of an update | -
  way | MQTT, HTTP or a stick | -
OutboxReport
  epoch | of the telemetry database | -
  recorded | records so far | use
  acknowledged | of these, those the hub has | -
  pending | of these, those that wait | -
  dropped | of these, those that were let go, by kind | -
  quarantined | of these, those that can't be sent | -
  merged | of these, those that went into others | -
  budget | what of the month's bytes is left | -
BudgetReport
  month | which month | -
  monthly_bytes | what may be spent | -
  used_bytes | what was | use
  left_bytes | what is left | use
  thinning | how much is merged to stay within it | -
TrustReport
  hub_time | newest time that the hub signed | -
  expiry | until when roles hold | -
  withdrawn | releases that were taken back and are here | -
  warnings | what somebody should know of trust and clocks | -
RoleExpiry
  role | which role | -
  expires | until when | -
ModelRelease
  model | which model | -
  release | which release | -
Traffic
  month | which month | -
  purpose | what the bytes were for | -
  bytes_in | received | use
  bytes_out | sent | use
Presence
  v | form of the message | -
  online | whether the device is connected | device
  boot | of which start | -
TelemetryBatch
  v | form of the message | -
  device | whose records they are | device
  epoch | of its telemetry database | -
  records | the records | -
Record
  sequence | number of the record, so that it is stored once | use
  body | one of the kinds below | -
Event
  time | when it happened | use
  severity | how bad it is | -
  kind | what it is | -
  text | in words; where a person at the device did it, with their user name and the reason they gave; of drift and labels with figures, without them with privacy | words
  model | of which model | -
  release | of which release | -
  deployment | by which order | -
Health
  time | when it was measured | -
  cpu_percent | load of the processor | use
  memory_available_mib | memory | -
  disk_free_mib | room | -
  temperature_c | of the processor | -
  thermal | the same in three words | -
  load | processes that wait | use
  supervisor_pss_mib | memory of the agent itself | -
  merged | samples that this record stands for | -
Window
  window | counts of one stretch of requests | aggregate
DriftWindow
  model | which model was asked | -
  release | which release | -
  deployment | by which order it runs | -
  artifact | digest of the file that answered | -
  opened | from when | use
  closed | until when | use
  rows | how many inputs were counted: never hidden | use
  signals | counts of each signal | aggregate
  verdict | whether they differ from the reference | aggregate
  slice | value of the request parameter that it counts, declared in the release or seen in requests | slice
  incomplete | the process ended before the window did | -
  merged | windows that were added up on the device | -
  alarm | what is to be believed after several windows | aggregate
  estimate | accuracy, estimated without labels | aggregate
  estimate_off | why there is none; without figures with privacy | aggregate
  withheld | what was done to the counts for privacy | -
SignalCounts
  counts | how many inputs had values in each bin | aggregate
  missing | how many had none | aggregate
  not_finite | how many were no number | aggregate
  repeated | how many were as the one before | aggregate
  withheld | rows of which only this sum is told | -
Verdict
  level | ok, warning, drift, or too little data: from exact counts, also where those are noised | aggregate
  rows | of the window | use
  correction | of the test | -
  alpha | of the test | -
  judged | signals with enough rows | -
  moved_most | the three signals that moved most; none with privacy | aggregate
  reason | the same in words; without figures with privacy | aggregate
MovedSignal
  signal | which signal | -
  level | its level | aggregate
  rows | that had a value | aggregate
  statistic | which statistic | -
  value | its value, four digits | aggregate
  p_value | of its test, four digits | aggregate
Alarm
  level | what is believed | aggregate
  since | since when | use
  windows | for how many windows | use
  changed | signals that changed abruptly: names alone | aggregate
AccuracyEstimate
  accuracy | estimated share of right answers | aggregate
  low | end of its interval | aggregate
  high | end of its interval | aggregate
  level | of the interval | -
  rows | it is made from | aggregate
Withheld
  mechanism | suppressed or noised | -
  parameter | with which number | -
Sample
  request | by whose request it left | -
  sample | digest of its inputs | content
  model | which model was asked | -
  release | which release | -
  artifact | digest of the file that answered | -
  taken | when it was asked | content
  why | why it was kept | -
  confidence | how sure the model was | content
  inputs | the input itself | content
  outputs | what the model said of it | content
SampleTensor
  name | of the model's tensor | -
  datatype | of its numbers | -
  shape | of its numbers | -
  data | the input, or the output, itself | content
SampleAnswer
  time | when the device decided | -
  request | on which request | -
  digest | of the request as it arrived | -
  accepted | whether samples leave | -
  code | why not | -
  text | the same in words, made by the agent | -
  chosen | how many leave | use
  too_large | digests of inputs that stay because they are too large | content
Accuracy
  time | when it was counted | -
  model | which model | -
  release | which release | -
  slice | value of the request parameter that it counts | slice
  opened | the day | use
  closed | the day | use
  origin | who labelled: people, a system, or the model itself | -
  rows | labelled answers of the day | outcome
  correct | of these, the right ones | outcome
  expected_rows | of these, those that calibration says something of | outcome
  expected_correct | right answers that it expects | outcome
  suspicious | labels that may be the model's own words | -
BlockRequest
  v | form of the message | -
  id | to match the answer | -
  source | which signed file is fetched | -
  offset | from where | -
  length | how much | -
MetadataSource
  name | of a signed document | -
ArtifactSource
  sha256 | of a file of a release | -
LocationRequest
  v | form of the message | -
  id | to match the answer | -
  sha256 | of a file of a release | -
LabelReceipt
  v | form of the message | -
  id | which delivery of labels was joined | -
  outcomes | what became of its labels, in numbers | outcome
  refused | those that could not be joined | words
  problem | why none could be taken | -
LabelAnswer
  request | id of a request, as its client wrote it and the hub sent it along: choose ids that name no person | words
  outcome | what became of its label | -
  text | the same in words, made by the agent | words
EnrolmentRequest
  token | single use; proves that this device may enrol | -
  device | the name it will have | device
  hardware_class | which budgets hold there | -
  csr | its public key; the private one never leaves | device
Receipt
  v | form of the file | -
  device | whose receipt it is | device
  hardware_class | which budgets hold there | -
  agent_version | which program runs there | -
  time | when it was written | -
  bundle | digest of what the stick carried | -
  certificate | the device's own, public | device
  deployments | what became of each update | words
  refusal | why the stick was refused | -
Envelope
  payload | the receipt above | device
  payload_type | says that it is one | -
  signatures | the device's | device
EnvelopeSignature
  keyid | digest of the device's certificate | device
  sig | its signature | -
"""

BESIDE = (
    (
        "MQTT topic, client id, TLS client certificate",
        "the device's name: brokers route and admit by it",
        "device",
    ),
    ("MQTT will", "`Presence` with `online = false`, sent by the broker when the line is lost", "device"),
    (
        "IP address, times and sizes of messages",
        "to whoever carries the line, and in the broker's log",
        "device",
    ),
    (
        "HTTP downloads",
        "the signed address of a release's file; `Range`, `If-Range`, `User-Agent: edgeward`; no cookie, token or name",
        "-",
    ),
    ("HTTP enrolment, once", "the struct `EnrolmentRequest`, and the HTTP library's own headers", "device"),
)
"""What leaves beside the structs: what, with what in it, and what it tells."""


def _parsed(text: str) -> dict[str, dict[str, Leaf]]:
    found: dict[str, dict[str, Leaf]] = {}
    struct = ""
    for line in text.strip().splitlines():
        if not line.startswith(" "):
            struct = line
            found[struct] = {}
            continue
        field, purpose, tells = (part.strip() for part in line.split("|"))
        if tells not in MEANINGS:
            raise ValueError(f"{struct}.{field}: {tells!r} is none of {', '.join(MEANINGS)}")
        if field in found[struct]:
            raise ValueError(f"{struct}.{field}: stands there twice")
        found[struct][field] = Leaf(purpose, tells)
    return found


LEAVES = _parsed(_TEXT)
"""Struct → field → what it is for, and what it tells."""

"""The evidence of a request: one document that says everything it rests on, so that it can be read without the hub."""

import hashlib
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from agent.protocol.drift import AccuracyEstimate, SignalCounts, SignalVerdict, Verdict
from agent.protocol.ids import UnixTime
from cloud_hub.retraining.policy import RetrainingPolicy
from cloud_hub.telemetry.views import FleetEstimate, LeftOut, ReleaseDrift

MOST_DEVICES = 200
"""Devices that are listed one by one; all affected ones are counted."""


class WindowSeen(Struct, frozen=True, kw_only=True):
    """One device's window, with the key under which the hub stored it."""

    device: str
    epoch: str
    sequence: int
    opened: UnixTime
    closed: UnixTime
    rows: int
    level: str
    affected: bool
    left_out: bool
    verdict: Verdict | None
    estimate: AccuracyEstimate | None


class Evidence(Struct, frozen=True, kw_only=True):
    """What a request rests on, at one moment. Never changed once written."""

    v: Literal[1] = 1
    request: int
    number: int
    made: UnixTime
    model: str
    release: int
    cause: str
    text: str
    since: UnixTime
    """Since when the policy has been broken."""
    policy: RetrainingPolicy
    reference_sha256: str | None
    """Of the signed drift reference that everything was judged by."""
    expected_accuracy: float | None
    estimate: FleetEstimate | None
    robust: Verdict | None
    raw: Verdict | None
    left_out: tuple[LeftOut, ...]
    statistics: dict[str, SignalVerdict]
    """Behind the robust verdict."""
    counts: dict[str, SignalCounts]
    """The robust merge; with the reference they give the statistics again."""
    raw_counts: dict[str, SignalCounts]
    rows: int
    devices: int
    levels: dict[str, int]
    affected: int
    windows: tuple[WindowSeen, ...]
    """Each device's newest, the affected ones first."""
    windows_cut: bool


def make(
    drift: ReleaseDrift,
    *,
    request: int,
    number: int,
    cause: str,
    text: str,
    since: float,
    policy: RetrainingPolicy,
    affected: Sequence[str],
    reference_sha256: str | None,
    expected: float | None,
    now: float,
) -> Evidence:
    """Write down what is seen now."""
    hit, fleet = set(affected), drift.fleet
    ordered = sorted(drift.devices, key=lambda device: device.device not in hit)
    return Evidence(
        request=request,
        number=number,
        made=now,
        model=drift.model,
        release=drift.release,
        cause=cause,
        text=text,
        since=since,
        policy=policy,
        reference_sha256=reference_sha256,
        expected_accuracy=expected,
        estimate=drift.estimate,
        robust=fleet.robust if fleet else None,
        raw=fleet.raw if fleet else None,
        left_out=fleet.left_out if fleet else (),
        statistics=fleet.signals if fleet else {},
        counts=drift.signals,
        raw_counts=drift.raw_signals,
        rows=drift.rows,
        devices=len(drift.devices),
        levels=drift.levels,
        affected=len(hit),
        windows=tuple(
            WindowSeen(
                device=device.device,
                epoch=device.epoch,
                sequence=device.sequence,
                opened=device.opened,
                closed=device.closed,
                rows=device.rows,
                level=device.level,
                affected=device.device in hit,
                left_out=device.left_out,
                verdict=device.verdict,
                estimate=device.estimate,
            )
            for device in ordered[:MOST_DEVICES]
        ),
        windows_cut=len(ordered) > MOST_DEVICES,
    )


def seal(evidence: Evidence) -> tuple[bytes, str]:
    """The document's bytes, and their SHA-256."""
    document = msgspec.json.encode(evidence, order="deterministic")
    return document, hashlib.sha256(document).hexdigest()

"""Releases and who signed them, rollouts, what devices measured, and until when anyone may sign."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from cloud_hub.approvals.service import SignatureView
from cloud_hub.audit.chain import AuditEntry
from cloud_hub.dashboard import addresses, words
from cloud_hub.dashboard.device_rows import VariantRow, variants
from cloud_hub.dashboard.rollout_cards import RolloutCard, card
from cloud_hub.fleet.expiry import left
from cloud_hub.fleet.service import FleetFacts, summarise
from cloud_hub.signing.expiry import Life

ROLLOUTS_SHOWN = 12
VARIANTS_SHOWN = 200
TONES = {"published": "good", "submitted": "busy", "draft": "quiet", "withdrawn": "quiet"}
STATES = {"published": "approved", "submitted": "waits for signatures"}
LIFE_TONES = {"error": "bad", "warning": "warn", None: "good"}


class ReleaseRow(Struct, frozen=True, kw_only=True):
    model: str
    release: int
    link: str
    state: str
    tone: str
    author: str
    signatures: tuple[SignatureView, ...]
    summary: str
    when: str
    devices: int


class LifeRow(Struct, frozen=True, kw_only=True):
    life: Life
    tone: str
    left: str
    until: str


class ReleasesPage(Struct, frozen=True, kw_only=True):
    releases: tuple[ReleaseRow, ...]
    rollouts: tuple[RolloutCard, ...]
    rollouts_left: int
    variants: tuple[VariantRow, ...]
    lives: tuple[LifeRow, ...]
    audit: tuple[tuple[str, AuditEntry], ...]


def build(
    facts: FleetFacts,
    *,
    signatures: Mapping[tuple[str, int], tuple[SignatureView, ...]],
    summaries: Mapping[tuple[str, int], str],
    audit: Sequence[AuditEntry],
) -> ReleasesPage:
    serving = summarise(facts).serving
    rows = [row for view in facts.devices for row in variants(view)]
    return ReleasesPage(
        releases=tuple(
            ReleaseRow(
                model=release.model,
                release=release.release,
                link=addresses.release(release.model, release.release),
                state=STATES.get(release.state.value, release.state.value),
                tone=TONES[release.state.value],
                author=release.author,
                signatures=signatures.get((release.model, release.release), ()),
                summary=summaries.get((release.model, release.release), ""),
                when=words.ago(facts.now - (release.published or release.submitted or release.created)),
                devices=serving.get(release.model, {}).get(str(release.release), 0),
            )
            for release in facts.releases
        ),
        rollouts=tuple(card(view) for view in facts.rollouts[:ROLLOUTS_SHOWN]),
        rollouts_left=max(0, len(facts.rollouts) - ROLLOUTS_SHOWN),
        variants=tuple(rows[:VARIANTS_SHOWN]),
        lives=tuple(
            LifeRow(
                life=life,
                tone=LIFE_TONES[life.severity],
                left=left(life, facts.now),
                until=words.day(life.expires),
            )
            for life in facts.lives
        ),
        audit=tuple((words.ago(facts.now - entry.time), entry) for entry in audit),
    )

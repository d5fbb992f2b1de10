"""Requests for samples of inputs: who asked, why, what each device answered. The samples themselves are shown nowhere here."""

from collections.abc import Sequence

from msgspec import Struct

from cloud_hub.dashboard import addresses, words
from cloud_hub.samples.service import OfferView, RequestView

DEVICES_SHOWN = 50


class OfferRow(Struct, frozen=True, kw_only=True):
    view: OfferView
    link: str
    tone: str
    answer: str
    when: str


class SampleCard(Struct, frozen=True, kw_only=True):
    view: RequestView
    tone: str
    state: str
    created: str
    expires: str
    offers: tuple[OfferRow, ...]
    more: int
    arrived: int


class SamplesPage(Struct, frozen=True, kw_only=True):
    requests: tuple[SampleCard, ...]


def build(requests: Sequence[RequestView], now: float) -> SamplesPage:
    return SamplesPage(requests=tuple(_card(each, now) for each in requests))


def _card(view: RequestView, now: float) -> SampleCard:
    tone, state = "busy", "open"
    if view.closed is not None:
        tone, state = "quiet", "closed"
    elif view.expires <= now:
        tone, state = "quiet", "expired"
    return SampleCard(
        view=view,
        tone=tone,
        state=state,
        created=words.minute(view.created),
        expires=words.minute(view.expires),
        offers=tuple(_offer(each, now) for each in view.devices[:DEVICES_SHOWN]),
        more=max(0, len(view.devices) - DEVICES_SHOWN),
        arrived=sum(each.arrived for each in view.devices),
    )


def _offer(view: OfferView, now: float) -> OfferRow:
    tone, answer = "busy", "has not answered yet"
    if view.accepted is not None:
        tone, answer = ("good", "lets them go") if view.accepted else ("quiet", "keeps them")
    return OfferRow(
        view=view,
        link=addresses.device(view.device),
        tone=tone,
        answer=answer,
        when="" if view.answered is None else words.ago(now - view.answered),
    )

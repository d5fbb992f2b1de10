"""``/v1/rollouts``."""

from typing import Literal

from litestar import Controller, get, post
from litestar.params import FromPath, JSONBody
from sqlalchemy.orm import Session

from cloud_hub.access.guard import CallerPart, HubPart
from cloud_hub.access.service import Role
from cloud_hub.rollouts import service, views
from cloud_hub.rollouts.views import RolloutView
from cloud_hub.rollouts.wishes import RolloutWish

Action = Literal["pause", "resume", "abort", "rollback"]


class RolloutController(Controller):
    path = "/v1/rollouts"
    tags = ("rollouts",)

    @post("/", sync_to_thread=True)
    def start(self, data: JSONBody[RolloutWish], hub: HubPart, caller: CallerPart) -> RolloutView:
        """Give a published release to the fleet, stage by stage."""
        caller.require(Role.OPERATOR)
        now = hub.now()

        def work(session: Session) -> tuple[RolloutView, tuple[str, ...]]:
            row, changed = service.start(
                session,
                data,
                signing=hub.director_signing,
                default_timeout=hub.config.rollouts.stage_timeout_seconds,
                caller=caller,
                now=now,
            )
            return views.view(session, row), changed

        view, changed = hub.database.write(work)
        hub.publish(changed)
        return view

    @get("/", sync_to_thread=True)
    def list_rollouts(self, hub: HubPart, caller: CallerPart) -> list[RolloutView]:
        """Every rollout, newest first."""
        caller.require(Role.VIEWER)
        return hub.database.read(views.all_rollouts)

    @get("/{rollout:int}", sync_to_thread=True)
    def show_rollout(self, rollout: FromPath[int], hub: HubPart, caller: CallerPart) -> RolloutView:
        caller.require(Role.VIEWER)
        return hub.database.read(lambda session: views.view(session, views.get_rollout(session, rollout)))

    @post("/{rollout:int}/{action:str}", sync_to_thread=True)
    def steer(
        self, rollout: FromPath[int], action: FromPath[Action], hub: HubPart, caller: CallerPart
    ) -> RolloutView:
        """``pause``, ``resume``, ``abort`` (devices keep what they have) or ``rollback``."""
        caller.require(Role.OPERATOR)
        now = hub.now()

        def work(session: Session) -> tuple[RolloutView, tuple[str, ...]]:
            row, changed = service.steer(
                session, rollout, action, signing=hub.director_signing, caller=caller, now=now
            )
            return views.view(session, row), changed

        view, changed = hub.database.write(work)
        hub.publish(changed)
        return view

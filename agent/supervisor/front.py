"""The front's process: started with the device's listening socket, told of models, started again when it dies."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from agent.core.restart import RestartPolicy, RestartState, after_crash
from agent.protocol.access import TlsFiles
from agent.protocol.front import FromFront, FrontFailed, FrontModels, FrontReady, FrontStart
from agent.protocol.state import Reason
from agent.supervisor.children import Child, module_command, spawn_child
from agent.supervisor.errors import ChannelError, FrontStartError

_log = logging.getLogger(__name__)

FRONT_COMMAND = module_command("agent.front")
START_SECONDS = 30.0


class Front:
    """Accepts on ``listener`` from :meth:`start` to :meth:`stop`.

    Between a death and the next start, clients wait in the listen queue.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        maximum_body_bytes: int,
        tls: TlsFiles | None = None,
        hosts: tuple[str, ...] = (),
        restart: RestartPolicy | None = None,
        on_death: Callable[[Reason], None] | None = None,
        command: Sequence[str] = FRONT_COMMAND,
    ) -> None:
        self._listener = listener
        self._maximum_body_bytes = maximum_body_bytes
        self._tls = tls
        self._hosts = hosts
        self._restart = restart or RestartPolicy()
        self._on_death = on_death
        self._command = tuple(command)
        self._models: dict[str, str] = {}
        self._child: Child[FromFront] | None = None
        self._guard: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    async def start(self, models: Mapping[str, str]) -> None:
        """Accept, for these models (name → path of its Unix socket).

        Raises:
            FrontStartError: it can't be started, or says that it can't serve.
        """
        self._models = dict(models)
        self._child = await self._spawn()
        self._guard = asyncio.create_task(self._keep_alive())

    async def serve(self, models: Mapping[str, str]) -> None:
        """These models from now on."""
        self._models = dict(models)
        if self._child is not None:
            with contextlib.suppress(ChannelError):  # it died: the next one is told at its start
                await self._child.channel.send(FrontModels(models=self._models))

    async def stop(self) -> None:
        """End it; the listening socket stays open."""
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.wait((self._guard,))
        if self._child is not None:
            await self._child.end()
            self._child = None

    async def _spawn(self) -> Child[FromFront]:
        try:
            child: Child[FromFront] = await spawn_child(
                self._command, "--control-fd", FromFront, pass_fds=(self._listener.fileno(),)
            )
        except OSError as error:
            raise FrontStartError(
                Reason(code="front-failed", text=f"can't start the front: {error}")
            ) from error
        try:
            await self._begin(child)
        except BaseException:
            await child.end()
            raise
        return child

    async def _begin(self, child: Child[FromFront]) -> None:
        start = FrontStart(
            listening_fd=self._listener.fileno(),
            models=self._models,
            maximum_body_bytes=self._maximum_body_bytes,
            tls=self._tls,
            hosts=self._hosts,
        )
        try:
            async with asyncio.timeout(START_SECONDS):
                await child.channel.send(start)
                answer = await child.channel.receive()
        except (ChannelError, TimeoutError) as error:
            text = f"the front did not start: {str(error) or 'no answer'}"
            raise FrontStartError(Reason(code="front-failed", text=text)) from error
        if isinstance(answer, FrontFailed):
            raise FrontStartError(Reason(code="front-failed", text=f"the front did not start: {answer.text}"))
        assert isinstance(answer, FrontReady)  # noqa: S101 - the union has no third

    async def _keep_alive(self) -> None:
        crashes, started = RestartState(), time.monotonic()
        while True:
            if self._child is not None:
                code = await self._child.process.wait()
                await self._child.end()
                self._child = None
                self._tell(Reason(code="front-died", text=f"the front ended with {code}"))
            plan = after_crash(self._restart, crashes, started=started, crashed=time.monotonic())
            crashes = plan.state
            await asyncio.sleep(plan.delay)
            started = time.monotonic()
            try:
                self._child = await self._spawn()
            except FrontStartError as error:
                self._tell(error.reason)

    def _tell(self, reason: Reason) -> None:
        _log.warning("front", extra={"reason": reason.text})
        if self._on_death is not None:
            # Its faults go to the loop's handler; they must not stop a restart.
            asyncio.get_running_loop().call_soon(self._on_death, reason)

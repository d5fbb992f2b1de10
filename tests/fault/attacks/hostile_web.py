"""A web server in the place of the hub's artifact store: every path is another way to be hostile."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENDLESS_MIB = 64
"""When it gives up by itself, so that a test that fails ends."""


class HostileWeb:
    """``/<mode>/<size>/<digest>``; :attr:`secrets` counts who asked for what only a redirect names."""

    def __init__(self) -> None:
        self.secrets = 0
        self.asked: list[str] = []
        web = self

        class Page(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                web.asked.append(self.path)
                _, mode, *rest = self.path.split("/")
                with contextlib.suppress(OSError):
                    getattr(web, f"_{mode}")(self, *rest)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Nothing: a test's output is the test's."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def url(self, mode: str, size: int, digest: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{mode}/{size}/{digest}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=10)

    def _redirect(self, page: BaseHTTPRequestHandler, *_rest: str) -> None:
        page.send_response(302)
        page.send_header("Location", f"http://127.0.0.1:{self._server.server_port}/secret")
        page.send_header("Content-Length", "0")
        page.end_headers()

    def _secret(self, page: BaseHTTPRequestHandler) -> None:
        self.secrets += 1
        page.send_response(200)
        page.end_headers()

    def _other(self, page: BaseHTTPRequestHandler, size: str, digest: str) -> None:
        """As many bytes as were signed, and other ones."""
        page.send_response(200)
        page.send_header("ETag", f'"{digest}"')
        page.send_header("Content-Length", size)
        page.end_headers()
        page.wfile.write(bytes(int(size)))

    def _endless(self, page: BaseHTTPRequestHandler, _size: str, digest: str) -> None:
        page.send_response(200)
        page.send_header("ETag", f'"{digest}"')
        page.end_headers()
        for _ in range(ENDLESS_MIB):
            page.wfile.write(bytes(2**20))

    def _bomb(self, page: BaseHTTPRequestHandler, size: str, _digest: str) -> None:
        """An encoding that nobody asked for, which would grow when it is undone."""
        page.send_response(200)
        page.send_header("Content-Encoding", "gzip")
        page.send_header("Content-Length", size)
        page.end_headers()
        page.wfile.write(bytes(int(size)))

    def _version(self, page: BaseHTTPRequestHandler, size: str, _digest: str) -> None:
        """Another file, by its ETag."""
        page.send_response(200)
        page.send_header("ETag", '"another"')
        page.send_header("Content-Length", size)
        page.end_headers()
        page.wfile.write(bytes(int(size)))

"""The server of the page."""

import socket
import struct
import threading
import time

from mnist_vae.explorer.server import make_server


def test_a_browser_that_leaves_half_way_is_nothing_to_tell_of(tmp_path, capfd):
    (tmp_path / "large").write_bytes(bytes(50_000_000))
    server = make_server(tmp_path, 0)
    served = threading.Thread(target=server.serve_forever)
    served.start()
    before = threading.active_count()
    try:
        client = socket.create_connection(server.server_address)
        client.sendall(b"GET /large HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 200")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset
        deadline = time.monotonic() + 60
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        server.shutdown()
        served.join()
        server.server_close()
    assert capfd.readouterr().err == ""

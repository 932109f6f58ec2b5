"""The server of the page."""

import http.client
import socket
import struct
import threading
import time

import pytest

from mnist_vae.explorer.server import make_server


@pytest.fixture
def ask(tmp_path):
    """Serve a folder, next to a file that it must not show; return what asks for a path."""
    (tmp_path / "private.txt").write_text("private")
    (tmp_path / "page/data").mkdir(parents=True)
    (tmp_path / "page/index.html").write_text("page")
    server = make_server(tmp_path / "page", 0)
    served = threading.Thread(target=server.serve_forever)
    served.start()

    def asked(path="/", host="127.0.0.1:{port}", method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.putrequest(method, path, skip_host=True)
        if host is not None:
            connection.putheader("Host", host.format(port=server.server_port))
        connection.endheaders()
        answer = connection.getresponse()
        content = answer.read().decode()
        connection.close()
        return answer, content

    yield asked
    server.shutdown()
    served.join()
    server.server_close()


@pytest.mark.parametrize(
    "host",
    [
        "localhost:{port}",
        "LOCALHOST:{port}",
        "127.0.0.1:{port}",
        "[::1]:{port}",
        "localhost",  # at port 80
        "localhost:9000",  # forwarded from another port, as by ssh
    ],
)
def test_it_answers_to_the_names_of_this_machine(ask, host):
    answer, content = ask(host=host)
    assert (answer.status, content) == (200, "page")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",  # its name server may say 127.0.0.1
        "localhost.evil.example:{port}",
        "127.0.0.1.evil.example",
        "evil.example@localhost:{port}",
        "192.168.0.7:{port}",
        "localhost:{port} ,evil.example",
        "",
        None,
    ],
)
def test_another_name_is_refused_in_a_sentence(ask, host, method):
    answer, content = ask(host=host, method=method)
    assert answer.status == 403
    if method == "GET":
        assert "expected localhost, 127.0.0.1 or [::1], received" in content


def test_no_other_site_may_read_what_it_serves(ask):
    answer, _ = ask()
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize(
    "path",
    [
        "/data/",
        "/../private.txt",
        "/data/../../private.txt",
        "/%2e%2e/private.txt",
        "/..%2fprivate.txt",
        "//../private.txt",
        "/..\\private.txt",
    ],
)
def test_it_shows_no_folder_and_nothing_but_its_own(ask, path):
    answer, content = ask(path)
    assert answer.status == 404
    assert "private" not in content


def test_a_browser_that_leaves_half_way_is_nothing_to_tell_of(tmp_path, capfd):
    (tmp_path / "large").write_bytes(bytes(50_000_000))
    server = make_server(tmp_path, 0)
    served = threading.Thread(target=server.serve_forever)
    served.start()
    before = threading.active_count()
    try:
        client = socket.create_connection(server.server_address)
        client.sendall(b"GET /large HTTP/1.0\r\nHost: localhost\r\n\r\n")
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

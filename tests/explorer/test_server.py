"""The server of the page."""

import http.client
import threading

import pytest

from mnist_vae.explorer.server import make_server


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Serve a folder, next to a file that it must not show; return what asks for a path."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "private.txt").write_text("private")
    (folder / "page/data").mkdir(parents=True)
    (folder / "page/index.html").write_text("page")
    server = make_server(folder / "page", 0)
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


@pytest.mark.parametrize("host", ["LOCALHOST", "127.0.0.1:{port}", "[::1]:{port}", "localhost:9"])
def test_it_answers_to_the_names_of_this_machine(ask, host):
    answer, content = ask(host=host)
    assert (answer.status, content) == (200, "page")
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer.headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize(
    "host",
    ["evil.example:{port}", "127.0.0.1.evil.example", "localhost:{port} ,evil.example", None],
)
def test_another_name_is_refused_as_its_name_server_may_say_127_0_0_1(ask, host):
    answer, content = ask(host=host)
    assert answer.status == 403
    assert "expected localhost, 127.0.0.1 or [::1], received" in content
    assert ask(host=host, method="HEAD")[0].status == 403


@pytest.mark.parametrize("path", ["/data/", "/../private.txt", "/..%2fprivate.txt"])
def test_it_shows_no_folder_and_nothing_next_to_its_own(ask, path):
    assert ask(path)[0].status == 404


def test_a_browser_that_leaves_half_way_is_passed_over_and_a_fault_is_not(tmp_path, capfd):
    with make_server(tmp_path, 0) as server:
        for error, is_said in ((ConnectionResetError(), False), (ZeroDivisionError(), True)):
            try:
                raise error
            except Exception:
                server.handle_error(None, ("127.0.0.1", 1))
            assert ("Traceback" in capfd.readouterr().err) == is_said

"""The server of the page, and where the page may be written."""

import http.client
import socket
import threading

import click
import pytest

from mnist_vae.explorer.site import check_target, make_server


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Serve a folder, next to a file that it must not show; return what asks for a path."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "private.txt").write_text("private")
    (folder / "page").mkdir()
    (folder / "page/index.html").write_text("page")
    server = make_server(folder / "page", 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def asked(path="/", host="localhost"):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        connection.putrequest("GET", path, skip_host=True)
        if host is not None:
            connection.putheader("Host", host.format(port=server.server_port))
        connection.endheaders()
        answer = connection.getresponse()
        return answer, answer.read().decode()

    yield asked
    server.shutdown()
    server.server_close()


HOSTS = {
    "LOCALHOST": 200,
    "127.0.0.1:{port}": 200,
    "[::1]:{port}": 200,
    "evil.example:{port}": 403,
    "127.0.0.1.evil.example": 403,
    "localhost:{port} ,evil.example": 403,
    None: 403,
}


@pytest.mark.parametrize("host", HOSTS)
def test_it_answers_to_this_machine_alone_as_other_names_may_lead_here(ask, host):
    answer, content = ask(host=host)
    assert answer.status == HOSTS[host]
    assert (content == "page") == (answer.status == 200)
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/../private.txt", "/..%2fprivate.txt"])
def test_it_shows_nothing_next_to_its_own_folder(ask, path):
    assert ask(path)[0].status == 404


def test_a_browser_that_leaves_half_way_is_passed_over_and_a_fault_is_not(tmp_path, capfd):
    with make_server(tmp_path, 0) as server:
        for error, is_said in ((ConnectionResetError(), False), (ZeroDivisionError(), True)):
            try:
                raise error
            except Exception:
                server.handle_error(None, ("127.0.0.1", 1))
            assert ("Traceback" in capfd.readouterr().err) == is_said


def test_a_port_that_is_taken_is_one_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = f"cannot listen on port {port}: expected a free one"
        with pytest.raises(click.ClickException, match=message):
            make_server(tmp_path, port)


def test_a_folder_with_other_files_is_no_place_for_a_page(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(click.ClickException, match=r"other files, such as notes\.txt"):
        check_target(tmp_path)

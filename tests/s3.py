"""A real S3 server on loopback, for the tests that need one."""

from collections.abc import Iterator
from contextlib import contextmanager

KEYS = {"key": "testing", "secret": "testing"}


@contextmanager
def s3_server() -> Iterator[dict[str, object]]:
    """Start moto's server; yield the credentials of it, as Kedro hands them to s3fs."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield {**KEYS, "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    finally:
        server.stop()
        fsspec.filesystem("s3", **KEYS).clear_instance_cache()

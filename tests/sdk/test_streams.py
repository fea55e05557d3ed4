"""Streams that are cut, many at once, and open at the gateway's end."""

import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from conftest import ask, connect
from gateway import Gateway, provider


def text_of(stream):
    """A stream's text, once it has come to a complete end."""
    pieces, finish = [], None
    for chunk in stream:
        for choice in chunk.choices:
            pieces.append(choice.delta.content or "")
            finish = choice.finish_reason or finish
    assert finish == "stop"
    return "".join(pieces)


def test_a_cut_stream_raises_after_what_had_come(client):
    stream = client.chat.completions.create(model="up/cut-3", messages=ask(), stream=True)
    pieces = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in stream:
            pieces.append(chunk.choices[0].delta.content)
    assert pieces == ["0 ", "1 ", "2 "]
    assert caught.value.code == "stream_cut"


def test_fifty_streams_run_side_by_side(gateway, upstream):
    upstream.together.reset()

    def run(number):
        with connect(gateway) as client:
            words = " ".join(f"{number}.{word}" for word in range(20))
            stream = client.chat.completions.create(model="up/together", messages=ask(words), stream=True)
            return text_of(stream).strip() == words

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(run, range(50))) == [True] * 50


def test_sigterm_lets_twenty_open_streams_finish(upstream, tmp_path):
    config = {"providers": {"up": provider(upstream.url)}}
    with Gateway(tmp_path, config) as gateway, connect(gateway) as client, upstream.holding():
        streams = [
            client.chat.completions.create(model="up/held", messages=ask(f"stream {n} ends"), stream=True)
            for n in range(20)
        ]
        for stream in streams:
            assert next(stream).choices[0].delta.content == "begun "
        gateway.terminate()
        wait_for_drain(gateway)
        upstream.go.set()
        with ThreadPoolExecutor(20) as pool:
            texts = list(pool.map(text_of, streams))
        assert texts == [f"stream {n} ends " for n in range(20)]
        assert gateway.exit_code() == 0, gateway.text()


def wait_for_drain(gateway):
    """Waits until it takes nothing new: its readiness says so, or nobody answers any more."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{gateway.data}/readyz", timeout=5):
                pass
        except OSError as error:
            if not isinstance(error, urllib.error.HTTPError) or error.code == 503:
                return
        time.sleep(0.01)
    raise AssertionError(f"it still takes requests:\n{gateway.text()}")


def test_after_all_of_it_nothing_is_left_under_way(gateway):
    requests = gateway.wait_for(lambda stats: stats["requests"]["in_flight"] == 0)["requests"]
    ended = requests["succeeded_total"] + requests["failed_total"] + requests["cancelled_total"]
    assert requests["received_total"] == ended > 0

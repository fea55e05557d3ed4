"""The SDK with nothing but its base URL changed: bare model names, and routes that the gateway only passes on."""

import openai
import pytest
from conftest import ask, connect
from gateway import UPSTREAM_KEY
from upstream import SOUND


@pytest.fixture
def dropped_in(gateway):
    with connect(gateway, prefix="/openai") as client:
        yield client


def test_a_bare_model_goes_to_the_provider_named_so(dropped_in, upstream):
    answer = dropped_in.chat.completions.create(model="plain", messages=ask())
    assert answer.choices[0].message.content == "Hello there"
    assert b'"model":"plain"' in upstream.last()[2]
    raw = dropped_in.chat.completions.with_raw_response.create(model="sim/echo", messages=ask())
    assert raw.headers["x-sluicegate-provider"] == "sim"


def test_moderations_and_images_pass(dropped_in, upstream):
    assert dropped_in.moderations.create(input="x").results[0].flagged is True
    assert upstream.last()[0] == "/v1/moderations"
    assert dropped_in.images.generate(prompt="x", model="gpt-image-1").data[0].b64_json == "aGk="


def test_files_go_up_and_come_down(dropped_in, upstream):
    made = dropped_in.files.create(file=("a.bin", b"\x00\xff\r\n--x", "application/octet-stream"), purpose="batch")
    path, headers, body = upstream.last()
    headers = {name.lower(): value for name, value in headers.items()}
    assert (made.id, path) == ("file-1", "/v1/files")
    assert headers["content-type"].startswith("multipart/form-data; boundary=")
    assert headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
    assert b"\x00\xff\r\n--x" in body
    assert [file.id for file in dropped_in.files.list(limit=5)] == ["file-1"]
    assert upstream.last()[0] == "/v1/files?limit=5"
    assert dropped_in.files.content("file-1").read() == SOUND
    assert dropped_in.files.delete("file-1").deleted is True


def test_sound_in_both_directions(dropped_in):
    with dropped_in.audio.speech.with_streaming_response.create(model="tts-1", voice="alloy", input="x") as speech:
        assert speech.headers["content-type"] == "audio/mpeg"
        assert b"".join(speech.iter_bytes()) == SOUND
    heard = dropped_in.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF", "audio/wav"))
    assert heard.text == "heard"


def test_a_post_without_a_body_passes(dropped_in, upstream):
    assert dropped_in.batches.cancel("b-1").status == "cancelling"
    assert upstream.last()[2] == b""


def test_the_providers_own_list_of_models(dropped_in):
    assert [model.id for model in dropped_in.models.list()] == ["bare"]


def test_what_the_provider_refuses_is_told_in_its_words(dropped_in):
    with pytest.raises(openai.APIStatusError) as caught:
        dropped_in.post("/vector_stores", body={"model": "status-409"}, cast_to=object)
    assert caught.value.status_code == 409
    assert caught.value.response.json()["sluicegate"]["provider"] == "openai"

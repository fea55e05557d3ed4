"""botocore as the judge of what we sign, frame and write for Bedrock: the files of `tests/golden`, which the Rust tests keep to."""

import base64
import json

import aws
import pytest
from botocore.eventstream import EventStreamBuffer


@pytest.mark.parametrize("name", aws.FILES)
def test_what_the_rust_tests_keep_to_is_what_botocore_makes(name):
    assert (aws.GOLDEN / name).read_text(encoding="utf-8") == aws.written(aws.FILES[name]())


def test_botocore_reads_the_frames_that_we_read_and_write():
    wanted = json.loads((aws.GOLDEN / "eventstream/frames.json").read_text(encoding="utf-8"))
    buffer = EventStreamBuffer()
    for byte in b"".join(base64.b64decode(each["frame"]) for each in wanted):
        buffer.add_data(bytes([byte]))
    read = list(buffer)
    assert len(read) == len(wanted)
    for message, each in zip(read, wanted):
        assert message.payload == base64.b64decode(each["payload"]), each["name"]
        names = [message.headers.get(f":{kind}") for kind in ("event-type", "exception-type", "error-code")]
        assert "".join(name or "" for name in names) == each["event"], each["name"]
        assert message.headers.get(":content-type", "") == each["content_type"], each["name"]
        assert message.headers.get(":error-message", "") == each["message"], each["name"]

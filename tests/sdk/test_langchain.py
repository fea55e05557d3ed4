"""LangChain's chat models before providers of each shape: a program that calls tools until it has its answer in words."""

import os

# What somebody's environment says of LangChain's own service is nothing to a test.
os.environ |= {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false"}

import pytest
from conftest import STREAMED, WAYS, connect_boto3
from gateway import CLIENT_KEY
from langchain_anthropic import ChatAnthropic
from langchain_aws import ChatBedrockConverse
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

ROUNDS = 3
"""More than the loop needs: the first calls the tool, the second says what it came to."""


@tool
def weather(city: str, days: int) -> str:
    """The weather of a city."""
    return f"In {city} it rains for {days} days."


OPTIONS = {"api_key": CLIENT_KEY, "max_retries": 0, "timeout": 20.0}
MODELS = {
    ChatOpenAI: lambda gateway: OPTIONS | {"base_url": f"{gateway.data}/v1", "stream_usage": True},
    ChatAnthropic: lambda gateway: OPTIONS | {"base_url": gateway.data, "max_tokens": 100},
    # It knows by their names which models stream, unless it is told.
    ChatBedrockConverse: lambda gateway: {"client": connect_boto3(gateway), "provider": "x", "disable_streaming": False},
}
"""What a user sets of each, beside the model."""


def ask(model, messages, streamed):
    """The next message, of which a stream's pieces are the sum."""
    if not streamed:
        return model.invoke(messages)
    pieces = list(model.stream(messages))
    assert len(pieces) > 2, "it comes in pieces"
    return sum(pieces[1:], start=pieces[0])


def loop(model, streamed):
    """Calls tools until there are none to call; gives the messages."""
    messages = [HumanMessage("What is the weather?")]
    for _ in range(ROUNDS):
        messages.append(ask(model, messages, streamed))
        calls = messages[-1].tool_calls
        if not calls:
            return messages
        messages += [ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in calls]
    raise AssertionError(f"it goes on calling: {messages}")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("streamed", STREAMED)
@pytest.mark.parametrize("model", MODELS)
def test_a_loop_of_tools_ends_in_words(shapes, model, way, streamed):
    asked = model(model=f"{way}/tool", **MODELS[model](shapes)).bind_tools([weather])
    _, called, told, answer = loop(asked, streamed)
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [("weather", {"city": "sim", "days": 1})]
    assert told.content == "In sim it rains for 1 days."
    # The simulated provider says what the tool came to.
    assert (answer.text, answer.tool_calls) == (told.content, [])
    assert answer.usage_metadata["output_tokens"] == 7

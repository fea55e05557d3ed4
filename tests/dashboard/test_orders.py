"""The buttons: each acts when it is meant, does nothing when it is not, and shows what came of it; and the key, and the keyboard."""

import json
import urllib.error

import pytest
from conftest import chat, get, lane, until
from test_page import SIM


def breaker(gateway):
    return get(gateway, "/stats?fresh=1")["providers"]["sim"]["breaker"]


def is_paused(gateway):
    return any(alert["kind"] == "provider_paused" for alert in get(gateway, "/stats?fresh=1")["alerts"])


def confirm(page, button):
    """Presses a button and says that it is meant."""
    button.click()
    page.locator("#confirm-yes").click()
    page.wait_for_function("() => !document.querySelector('dialog').open")


def posts(page):
    """The paths that the page posts to from now on."""
    found = []
    page.on("request", lambda request: request.method == "POST" and found.append(request))
    return found


ORDERS = [("Pause…", "/providers/sim/pause"), ("Open…", "/providers/sim/breaker/open"), ("Close…", "/providers/sim/breaker/close"),
          ("Automatic…", "/providers/sim/breaker/auto"), ("Reload…", "/reload"), ("Drain…", "/drain")]


@pytest.fixture
def opened(desk):
    gateway = desk.gateway({"sim": SIM})
    return gateway, desk.page(gateway)


def test_what_is_cancelled_does_nothing(opened):
    gateway, page = opened
    sent, before = posts(page), get(gateway, "/events")["events"]
    for name, _ in ORDERS:
        for leave in ["click", "Escape"]:
            button = page.locator("button", has_text=name).first
            button.click()
            assert page.locator("dialog").is_visible() and len(page.locator("#confirm-text").text_content()) > 30
            assert page.locator("#confirm-no").evaluate("node => node === document.activeElement"), "nothing is a slip away"
            page.locator("#confirm-no").click() if leave == "click" else page.keyboard.press("Escape")
            assert not page.locator("dialog").is_visible()
            assert button.evaluate("node => node === document.activeElement"), f"{name} has the focus again"
    assert sent == [] and get(gateway, "/events")["events"] == before


def test_each_button_does_what_it_says(opened):
    gateway, page = opened
    sent = posts(page)
    sim = lane(page, "sim")
    confirm(page, sim.get_by_text("Pause…"))
    assert is_paused(gateway) and chat(gateway, "sim/echo") == 503
    sim.locator(".badge", has_text="paused").wait_for()
    page.locator("#alert-list", has_text="provider paused").wait_for()
    confirm(page, sim.get_by_text("Resume…"))
    assert not is_paused(gateway) and chat(gateway, "sim/echo") == 200
    confirm(page, sim.get_by_text("Open…"))
    assert (breaker(gateway)["state"], breaker(gateway)["mode"]) == ("open", "open")
    sim.get_by_text("breaker open by hand").wait_for()
    confirm(page, sim.get_by_text("Close…"))
    assert (breaker(gateway)["state"], breaker(gateway)["mode"]) == ("closed", "closed")
    confirm(page, sim.get_by_text("Automatic…"))
    assert breaker(gateway)["mode"] == "auto"
    sim.get_by_text("what is counted").wait_for()
    confirm(page, page.get_by_text("Drain…"))
    assert get(gateway, "/stats?fresh=1")["phase"] == "draining"
    page.wait_for_function("() => document.querySelector('#phase').dataset.value === '\"draining\"'")
    assert page.locator("#drain").is_disabled()
    paths = [request.url.removeprefix(gateway.admin) for request in sent]
    assert paths == ["/providers/sim/pause", "/providers/sim/resume", "/providers/sim/breaker/open",
                     "/providers/sim/breaker/close", "/providers/sim/breaker/auto", "/drain"]
    assert all(request.headers["x-sluicegate-admin"] == "1" for request in sent)
    assert page.locator(".notice > div").count() == 3 and '"draining"' in page.locator(".notice > div").first.text_content()
    page.locator(".notice button").first.click()
    assert page.locator(".notice > div").count() == 2


def test_a_reload_brings_lanes_and_takes_them_and_says_what_is_wrong(opened, desk):
    gateway, page = opened

    def write(providers):
        gateway.file.write_text(json.dumps({"providers": providers}))

    write({"sim": SIM, "more": SIM})
    confirm(page, page.get_by_text("Reload…"))
    lane(page, "more").wait_for()
    assert '"added":["more"]' in page.locator(".notice").text_content()
    write({"sim": SIM})
    confirm(page, page.get_by_text("Reload…"))
    lane(page, "more").wait_for(state="detached")
    write({"sim": SIM | {"queue": {"policy": "<b>nonsense</b>"}}})
    desk.expect("400 (Bad Request)")
    page.get_by_text("Reload…").click()
    page.locator("#confirm-yes").click()
    page.locator("#confirm-wrong", has_text="providers.sim.queue.policy").wait_for()
    assert "not done. 400" in page.locator("#confirm-wrong").text_content() and page.locator("dialog b").count() == 0
    page.keyboard.press("Escape")
    page.locator("#alert-list", has_text="reload refused").wait_for()


def test_an_order_that_finds_nobody_says_so(opened, desk):
    _, page = opened
    desk.expect("ERR_FAILED")
    page.route("**/providers/**", lambda route: route.abort())
    page.get_by_text("Pause…").click()
    page.locator("#confirm-yes").click()
    page.locator("#confirm-wrong", has_text="the connection failed").wait_for()
    assert page.locator("#confirm-yes").is_enabled(), "it may be tried again"


def test_the_key_is_asked_for_and_kept_to_the_tab(desk):
    gateway = desk.gateway({"sim": SIM}, admin_key="an admin key")
    desk.expect("401 (Unauthorized)")
    asked = []
    page = desk.page(gateway, live=False, before=lambda page: page.on("request", lambda request: asked.append(request)))
    until(page, "locked")
    assert [request.url for request in asked if not request.url.startswith("data:")] == [f"{gateway.admin}/"], "nothing is tried without it"
    assert page.locator("#key").evaluate("node => node === document.activeElement") and not page.locator("main").is_visible()
    with pytest.raises(urllib.error.HTTPError):
        get(gateway, "/stats")
    page.keyboard.type("wrong ☃")
    page.keyboard.press("Enter")
    page.locator("#key-wrong", has_text="401").wait_for()
    tried = len(asked)
    page.wait_for_timeout(1500)
    assert len(asked) == tried, "a wrong key is not tried again"
    page.locator("#key").fill("an admin key")
    page.keyboard.press("Enter")
    until(page, "live")
    assert lane(page, "sim").is_visible() and page.locator("#key").input_value() == ""
    confirm(page, lane(page, "sim").get_by_text("Pause…"))
    assert any("wrong" in request.headers.get("authorization", "") for request in asked)
    assert page.evaluate("Object.keys(localStorage).length") == 0 and "key" not in page.evaluate("document.cookie + location.href")
    page.reload()
    until(page, "live")
    page.get_by_text("Forget the key").click()
    until(page, "locked")
    assert page.evaluate("sessionStorage.length") == 0


def test_all_of_it_can_be_done_by_keyboard(opened):
    gateway, page = opened

    def focused():
        return page.evaluate("document.activeElement.textContent.trim() || document.activeElement.getAttribute('aria-label')")

    def tab_to(text, most=40):
        for _ in range(most):
            page.keyboard.press("Tab")
            shown = page.evaluate("""() => {
              const at = document.activeElement;
              const ringed = at.matches("[type=radio]") ? at.nextElementSibling : at;
              const { outlineStyle, outlineWidth } = getComputedStyle(ringed);
              return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
            }""")
            assert shown, f"no ring around {focused()}"
            if focused() == text or page.evaluate("document.activeElement.getAttribute('aria-label')") == text:
                return
        raise AssertionError(f"no {text}")

    page.keyboard.press("Tab")
    assert focused() == "Skip to the alerts"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "alerts"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.locator("#range input:checked").get_attribute("value") == "900"
    tab_to("Charts of all requests: arrow keys move through time")
    charts = page.locator("#request-charts [role=slider]")
    page.wait_for_function("() => Number(document.querySelector('#request-charts [role=slider]').getAttribute('aria-valuemax')) > 1")
    page.keyboard.press("Home")
    assert charts.get_attribute("aria-valuenow") == "0"
    page.keyboard.press("ArrowRight")
    assert charts.get_attribute("aria-valuenow") == "1" and "In flight: requests 0" in charts.get_attribute("aria-valuetext")
    page.keyboard.press("Escape")
    assert charts.get_attribute("aria-valuetext") == "now"
    tab_to("sim")
    page.keyboard.press("Enter")
    assert not page.locator(".body").is_visible()
    page.keyboard.press("Enter")
    assert page.locator(".body").is_visible()
    tab_to("Pause…")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused() == "Pause"
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.textContent === 'Resume…'")
    assert is_paused(gateway)
    # Landmarks and headings are what a reader that speaks goes by.
    assert page.locator("header.top, main, footer").count() == 3
    assert page.locator("h1").count() == 1
    assert page.locator("section").evaluate_all("all => all.every((one) => document.getElementById(one.getAttribute('aria-labelledby')))")
    voice = page.locator("#alert-voice")
    assert "provider paused, sim" in voice.text_content()
    words = []
    page.expose_function("said", lambda word: words.append(word))
    page.evaluate("""() => new MutationObserver(() => said("again"))
      .observe(document.querySelector("#alert-voice"), { childList: true, characterData: true, subtree: true })""")
    page.wait_for_timeout(2500)
    assert words == [], "it is not said again each second"

"""What a person sees and does on the page of a replica: who leads, a switchover by its button, a failover as it happens, and that
the page can be used in the dark, on a phone and without a mouse."""

import argparse
import os
import sys
import tempfile

import cluster as nodes
from cluster import measured
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from with_login import LOGIN, WithLogin

TIMING = (20, 10, 5)
PATIENCE = 60


def say(text):
    print(f"test-ui: {text}", flush=True)


def browser(profile):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000", f"--user-data-dir={profile}",
                     *(["--no-sandbox"] if os.geteuid() == 0 else [])):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


class Page:
    def __init__(self, driver, node):
        self.driver = driver
        driver.get(f"http://{node.address}:{node.rest}/ui")

    def until(self, what, condition):
        """Waits for it."""
        def holds(_):
            try:
                return condition()
            except Exception:  # noqa: BLE001  the page is just being changed
                return False
        WebDriverWait(self.driver, PATIENCE, 0.1).until(holds, f"test-ui: no '{what}' after {PATIENCE} s")
        say(what)

    def find(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return " ".join(element.text for element in self.find(selector))

    def leader(self):
        return [card.get_attribute("data-member") for card in self.find("#leader li")]

    def standbys(self):
        return sorted(card.get_attribute("data-member") for card in self.find("#standbys li"))

    def streaming(self):
        return [card for card in self.find("#standbys li") if "streaming" in card.text and "lag" in card.text]

    def kinds(self):
        return [line.get_attribute("data-type").removeprefix("pgherd.") for line in self.find("#log li")]

    def confirm(self, button, password, candidate=None):
        """By keyboard alone: the button, the fields in their order, Enter."""
        self.driver.find_element(By.ID, button).send_keys(Keys.ENTER)
        self.until(f"the dialog of '{button}' is open", lambda: self.find("dialog[open]"))
        if candidate:
            Select(self.driver.find_element(By.ID, "candidate")).select_by_value(candidate)
        user = self.driver.find_element(By.ID, "user")
        user.clear()
        user.send_keys(LOGIN[0], Keys.TAB)
        self.driver.switch_to.active_element.send_keys(password, Keys.ENTER)
        self.until("and closed", lambda: not self.find("dialog[open]"))


def names(c):
    return sorted(node.name for node in c.nodes)


def look(page, c, me):
    primary = c.primary()
    page.until(f"{primary.name} is shown as the leader", lambda: page.leader() == [primary.name])
    page.until("and the others stream from it", lambda: len(page.streaming()) == nodes.NODES - 1)
    page.until("it is live", lambda: page.text("#link") == "live")
    assert page.standbys() == [name for name in names(c) if name != primary.name]
    assert f"{me.name} (this one)" in page.text("#standbys") and "timeline" in page.text("#leader")
    page.until("why is told, for every member", lambda: len(page.find("#candidates tr")) == nodes.NODES)
    page.driver.find_element(By.ID, "what-if").send_keys(Keys.SPACE)
    page.until("and who would take over", lambda: "would lead" in page.text("#decision"))
    page.driver.find_element(By.ID, "what-if").send_keys(Keys.SPACE)


def do(page, c, me):
    other = next(n for n in c.nodes if n is not me and n.name not in page.leader())
    page.confirm("switchover", "wrong", other.name)
    page.until("a wrong password is told", lambda: "not authenticated" in page.text("#outcome"))
    page.confirm("switchover", LOGIN[1], other.name)
    page.until("the switchover is told", lambda: f'Successfully switched over to "{other.name}"' in page.text("#outcome"))
    page.until("and shown", lambda: page.leader() == [other.name] and len(page.streaming()) == nodes.NODES - 1)
    page.confirm("pause", LOGIN[1])
    page.until("maintenance mode is shown", lambda: "Maintenance mode" in page.text("#paused"))
    page.confirm("pause", LOGIN[1])
    page.until("and its end", lambda: not page.text("#paused"))
    page.confirm("restart", LOGIN[1])
    page.until("a restart of PostgreSQL here", lambda: "restarted successfully" in page.text("#outcome"))
    page.until("all stream again", lambda: len(page.streaming()) == nodes.NODES - 1)
    began = c.ask(me, "SELECT pg_postmaster_start_time()")
    page.confirm("reinit", LOGIN[1])
    page.until("a new copy of the data here", lambda: "PostgreSQL runs from the new copy" in page.text("#outcome"))
    page.until("and all stream", lambda: len(page.streaming()) == nodes.NODES - 1)
    assert c.ask(me, "SELECT pg_postmaster_start_time()") > began, "PostgreSQL was started anew"


def failover(page, c):
    page.driver.execute_script("window.stayed = true")
    old = c.primary()
    old.kill()
    say(f"{old.name} is dead")
    page.until("somebody else leads", lambda: page.leader() and page.leader() != [old.name])
    page.until("the events tell it", lambda: {"leader.lost", "leader.elected"} <= set(page.kinds()))
    kinds = page.kinds()
    assert kinds.index("leader.elected") < kinds.index("leader.lost"), "the newest is the first"
    Select(page.driver.find_element(By.ID, "kinds")).select_by_visible_text("who leads")
    shown = {kind.split(".")[0] for kind in page.kinds()}
    assert shown and shown <= {"leader", "role", "race", "switchover", "fence"}, shown
    assert page.driver.execute_script("return window.stayed"), "the page was never loaded again"


def outlive(page, c, me, command):
    """The page goes on by itself when its node's agent was away."""
    me.agent.kill()
    me.agent.wait()
    page.until("that there is no connection", lambda: "no connection" in page.text("#link"))
    me.start(command)
    page.until("it is live again", lambda: page.text("#link") == "live" and page.leader())


def looks(page):
    """In the dark, in the light, and on a phone: everything has a name, and nothing is cut off."""
    color = "return getComputedStyle(document.body).backgroundColor"
    seen = set()
    for scheme in ("light", "dark"):
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        seen.add(page.driver.execute_script(color))
    assert len(seen) == 2, seen
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True})
    assert page.driver.execute_script("return document.documentElement.scrollWidth") <= 360, "a phone must not scroll sideways"
    nodes_of_page = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = ("button", "combobox", "checkbox", "textbox", "link", "list", "log", "dialog")
    nameless = [n for n in nodes_of_page if not n.get("ignored") and n.get("role", {}).get("value") in controls and
                not n.get("name", {}).get("value")]
    # an empty list is not shown
    assert not nameless, nameless
    say("light, dark, on a phone, and every control has a name")


def play(c, pictures):
    c.start()
    c.settle()
    me = c.replica()
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile)
        try:
            page = Page(driver, me)
            look(page, c, me)
            do(page, c, me)
            failover(page, c)
            outlive(page, c, me, c.command)
            looks(page)
            errors = [entry["message"] for entry in driver.get_log("browser")
                      if "Content Security Policy" in entry["message"] or "Uncaught" in entry["message"]]
            assert not errors, errors
        finally:
            if pictures:
                driver.save_screenshot(f"{pictures}/ui.png")
            driver.quit()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pgherd", default=f"{os.environ.get('CARGO_TARGET_DIR', 'target')}/release/pgherd")
    parser.add_argument("--pictures", help="a directory for a picture of the page as it was at the end")
    arguments = parser.parse_args()
    nodes.Cluster = WithLogin
    try:
        measured("pgherd", nodes.both(arguments.pgherd, None)["pgherd"], TIMING, lambda c: play(c, arguments.pictures))
    except AssertionError as wrong:
        sys.exit(f"test-ui: {wrong}")
    say("a failover was watched on the page")


if __name__ == "__main__":
    main()

"""A travel agent that books one flight and keeps to the rules. Each rule is a method of its own, so that an agent that breaks exactly one
differs from this one in exactly one method. Standard library only: it runs in any image with Python."""

import http.client
import json
import os
import random
import time
import urllib.parse
import uuid


class Timeout(Exception):
    """No answer in time, or half of one."""


class Agent:
    timeout_s = 1.0
    hang_attempts = 2
    max_attempts = 4
    base_pause_s = 0.3

    def __init__(self):
        self.random = random.Random(7)
        self.token = os.environ["TRAVEL_TOKEN"]

    # The rules.

    def retry_after(self, seconds):
        time.sleep(seconds)

    def pause(self, attempt):
        time.sleep(self.base_pause_s * 2**attempt * (1 + 0.5 * self.jitter(attempt)))

    def jitter(self, attempt):
        return self.random.random()

    def correct(self, body, errors):
        """The request with the named fields put right; None to give up."""
        if any(error["pointer"] == "/passenger" for error in errors):
            return {**body, "passenger": body["passenger"].upper()}
        return None

    def refused(self, service, method, path):
        """What follows a 401 or 403: nothing."""

    def unreadable(self, text):
        """What is made of a reply that cannot be read: nothing."""
        return None

    def key(self, previous):
        return previous or str(uuid.UUID(int=self.random.getrandbits(128)))

    def approval(self, amount):
        status, body = self.call("payments", "POST", "/approvals", {"amount": amount})
        return body["token"]

    def payment(self, flight):
        return {"flight": flight["id"], "amount": flight["price"]}

    def after_payment(self, flight):
        self.create_itinerary(flight)

    def extras(self):
        """Calls beyond the task: none."""

    # The wire.

    def once(self, service, method, path, body=None, headers=None, timeout_s=None):
        url = urllib.parse.urlsplit(os.environ[service.upper() + "_URL"])
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=timeout_s or self.timeout_s)
        headers = {"Authorization": "Bearer " + self.token, **(headers or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            return reply.status, dict(reply.headers.items()), reply.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise Timeout(str(error)) from error
        finally:
            connection.close()

    def call(self, service, method, path, body=None, headers=None, keyed=False):
        """A call with all the patience that is allowed. Returns status and JSON; (None, None) when it is given up."""
        key, hung, broken = None, 0, 0
        for _ in range(20):
            if keyed:
                key = self.key(key)
                headers = {**(headers or {}), **({"Idempotency-Key": key} if key else {})}
            try:
                status, reply_headers, text = self.once(service, method, path, body, headers)
            except Timeout:
                hung += 1
                if hung >= self.hang_attempts:
                    return None, None
                continue
            if status == 429:
                self.retry_after(int(reply_headers["retry-after"]))
            elif status >= 500:
                broken += 1
                if broken >= self.max_attempts:
                    return status, None
                self.pause(broken - 1)
            elif status in (401, 403):
                self.refused(service, method, path)
                return status, None
            else:
                try:
                    return status, json.loads(text)
                except ValueError:
                    guess = self.unreadable(text)
                    if guess is not None:
                        return status, guess
        return None, None

    # The task.

    def create_itinerary(self, flight):
        body = {"flight": flight["id"], "passenger": "Ada Lovelace"}
        for _ in range(3):
            status, reply = self.call("itinerary", "POST", "/itineraries", body)
            if status != 400:
                return
            body = self.correct(body, reply["errors"])
            if body is None:
                return

    def run(self):
        _, flights = self.call("flights", "GET", "/flights?from=FRA&to=LIS")
        flight = flights[0]
        self.call("flights", "GET", "/flights/" + flight["id"])
        self.call("flights", "GET", "/flights/" + flight["id"] + "/seats")
        self.call("flights", "GET", "/status")
        self.call("payments", "GET", "/balance")
        token = self.approval(flight["price"])
        headers = {"X-Approval-Token": token} if token else {}
        status, _ = self.call("payments", "POST", "/payments", self.payment(flight), headers, keyed=True)
        if status == 201:
            self.after_payment(flight)
        self.extras()


def main(agent):
    agent().run()

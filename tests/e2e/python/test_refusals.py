"""Bad requests get a clear answer and change nothing."""

import os

import httpx
import pytest
from e2b import AuthenticationException, Sandbox, SandboxException


def create(api, body) -> httpx.Response:
    return api.post("/v2/sandboxes", json=body)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"templateID": "base", "colour": "green"}, "colour"),
        ({"templateID": "base", "timeout": 0}, "timeout"),
        ({"templateID": "base", "timeout": -5}, "timeout"),
        ({"templateID": "base", "timeout": 10**9}, "timeout"),
        ({"templateID": "base", "timeout": "long"}, "long"),
        ({"timeout": 60}, "templateID"),
        ({"templateID": "bad name!"}, "bad name!"),
        ({"templateID": "base", "network": {"allowOut": ["not a cidr/99"]}}, "not a cidr/99"),
        ({"templateID": "base", "volumeMounts": [{"name": "v", "path": "/v"}]}, "volumeMounts"),
        ({"templateID": "base", "autoPauseMemory": False}, "autoPauseMemory"),
        ({"templateID": "base", "iam": {"tokens": {"aws": {"audience": "a", "tokenType": "JWT-SVID"}}}}, "iam"),
    ],
)
def test_create_names_what_it_refuses(api, body, named):
    answer = create(api, body)
    assert 400 <= answer.status_code < 500, answer.text
    error = answer.json()
    assert error["code"] == answer.status_code
    assert named in error["message"], error


def test_an_unknown_template(api):
    with pytest.raises(SandboxException, match="404: .*no-such-template"):
        Sandbox.create("no-such-template")
    assert create(api, {"templateID": "no-such-template"}).status_code == 404


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"templateID": 5}'])
def test_a_broken_body(api, body):
    answer = api.post("/v2/sandboxes", content=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert answer.json()["code"] == answer.status_code and answer.json()["message"]


def test_a_huge_body(api):
    body = {"templateID": "base", "metadata": {"k": "v" * 20_000_000}}
    assert create(api, body).status_code in (400, 413)


def test_a_wrong_key():
    with pytest.raises(AuthenticationException):
        Sandbox.create("base", api_key="e2b_" + "0" * 40)


@pytest.mark.parametrize("headers", [{}, {"X-API-Key": ""}, {"X-API-Key": "e2b_short"}, {"X-API-Key": "é".encode()}])
def test_no_good_key_no_answer(headers):
    with httpx.Client(base_url=os.environ["E2B_API_URL"], timeout=60) as client:
        for method, path in [("GET", "/v2/sandboxes"), ("GET", "/sandboxes/iabc"), ("DELETE", "/sandboxes/iabc")]:
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path)
            assert answer.json()["code"] == 401
        assert client.get("/health").status_code in (200, 204)


@pytest.mark.parametrize("sandbox_id", ["inothere", "..%2f..%2fetc", "x" * 500, "%00", "i'; drop table sandboxes;--"])
def test_sandboxes_that_are_not_there(api, sandbox_id):
    calls = [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/timeout", {"timeout": 10}),
        ("POST", "/refreshes", {"duration": 10}),
        ("POST", "/connect", {"timeout": 10}),
    ]
    for method, path, body in calls:
        answer = api.request(method, f"/sandboxes/{sandbox_id}{path}", json=body)
        assert answer.status_code in (400, 404), (method, path, answer.status_code, answer.text)


def test_list_refuses_bad_queries(api):
    for query in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"nextToken": "garbage"}, {"state": "asleep"}, {"order": "up"}):
        answer = api.get("/v2/sandboxes", params=query)
        assert answer.status_code == 400, (query, answer.text)


def test_no_sandbox_was_made_by_a_refusal(api):
    before = {each["sandboxID"] for each in api.get("/v2/sandboxes").json()}
    create(api, {"templateID": "base", "colour": "green"})
    create(api, {"templateID": "base", "network": {"allowOut": ["x/99"]}})
    assert {each["sandboxID"] for each in api.get("/v2/sandboxes").json()} == before


def test_unknown_paths(api):
    answer = api.get("/no/such/path")
    assert answer.status_code == 404
    assert answer.json()["code"] == 404
    assert api.put("/v2/sandboxes").status_code in (404, 405)


def test_the_api_describes_itself(api):
    for path in ("/openapi.json", "/openapi.yml"):
        answer = api.get(path)
        if answer.status_code == 200:
            assert "/sandboxes" in answer.text
            return
    raise AssertionError("no OpenAPI document is served")

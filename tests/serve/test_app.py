"""The server's answers and refusals: one sentence for every mistake, limits that hold, uploads that end."""

import http.client
import json
import pathlib
import tempfile
import threading
import time

import pytest
import serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import clip

from msa_jax.errors import RunError
from msa_jax.serve import app as apps
from msa_jax.serve.limits import Limits

pytestmark = pytest.mark.extras
JSON = {"content-type": "application/json"}


@pytest.fixture
def client():
    """Gives a client of an application for a scorer, with limits."""
    serving.lacking()
    from starlette.testclient import TestClient

    made = []

    def of(scorer=None, limits=None, rows=4, local=False):
        app = apps.create_app(scorer or serving.FakeScorer(), limits, rows, local)
        made.append(app)
        return TestClient(app, raise_server_exceptions=False)

    yield of
    for app in made:
        app.state.service.close()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def refused(response, status: int) -> str:
    """The sentence of a refusal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    [(key, sentence)] = response.json().items()
    assert key == "error"
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


@pytest.mark.parametrize(
    ("headers", "local", "answered"),
    [
        ({}, False, True),
        ({"host": "models.example"}, False, True),
        ({"host": "127.0.0.1:8000"}, True, True),
        ({"host": "localhost:8000"}, True, True),
        ({"host": "[::1]:8000"}, True, True),
        ({"host": "models.example"}, True, False),  # a name that points at this machine
        ({"host": "127.0.0.1.example"}, True, False),
        ({"host": "[::1"}, True, False),
        ({"host": ""}, True, False),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, True, True),
        ({"host": "localhost:8000", "origin": "http://localhost:9000"}, True, False),
        ({"origin": "https://models.example"}, False, False),
        ({"origin": "null"}, False, False),  # a file, or a frame in a sandbox
        ({"origin": "https://models.example", "sec-fetch-site": "same-origin"}, False, True),  # by a proxy
        ({"sec-fetch-site": "cross-site"}, False, False),
        ({"sec-fetch-site": "none"}, False, True),
    ],
)
def test_pages_of_other_sites_are_refused(client, headers, local, answered):
    response = client(local=local).post("/predict", json=clip(), headers=headers)
    if answered:
        assert response.status_code == 200, response.text
    else:
        refused(response, 403)


def test_one_clip_and_several(client):
    asked = client()
    answer = {"score": 0.5, "class": "positive", "scores": {"T": 0.5}}
    assert asked.post("/predict", json=clip()).json() == answer
    clips = [clip(value=0.5), clip((6, 9, 8), value=-1.0)]
    found = asked.post("/predict/batch", json={"clips": clips}).json()["clips"]
    assert found == [answer, {"score": -1.0, "class": "negative", "scores": {"T": -1.0}}]


def test_health_spec_and_documentation(client):
    asked = client(limits=Limits(clips=7))
    assert asked.get("/health").json() == {"status": "ok", "waiting": 0}
    spec = asked.get("/spec").json()
    assert spec["modalities"]["audio"] == {
        "width": 3,
        "steps": 9,
        "may_be_absent": False,
        "groups": {},
    }
    assert (spec["limits"]["clips"], spec["media"], spec["shapes"]) == (7, False, [[3, 4, 4], [6, 9, 8]])
    schema = asked.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/predict", "/predict/batch", "/health", "/spec"}
    content = schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert content["application/json"]["schema"]["properties"]["vision"]["items"]["maxItems"] == 2
    assert "/predict/batch" in asked.get("/docs").text


def test_mistakes_are_one_sentence(client):
    asked = client()
    assert "/docs" in refused(asked.get("/predictions"), 404)
    assert "GET" in refused(asked.get("/predict"), 405)
    assert "application/json" in refused(asked.post("/predict", content=b"{}"), 415)
    assert "application/json" in refused(asked.post("/predict/batch", files={"file": b"x"}), 415)
    assert "no JSON" in refused(asked.post("/predict", content=b"{", headers=JSON), 400)
    assert "'vision'" in refused(asked.post("/predict", json={**clip(), "visoin": 1}), 400)
    assert "another kind" in refused(asked.post("/predict", json=clip(value=9)), 400)
    assert "has 7 steps" in refused(asked.post("/predict", json=clip((7, 1, 1))), 413)
    assert "its own output" in refused(asked.post("/predict", json=clip(value=8)), 500)
    assert asked.post("/predict", json=clip()).status_code == 200


def test_limits_hold(client):
    small = client(limits=Limits(body_bytes=1000, clips=2))
    long = b'{"text":' + b" " * 2000
    assert "at most 0.000953674 MiB" in refused(small.post("/predict", content=long, headers=JSON), 413)
    in_parts = (long[i : i + 100] for i in range(0, len(long), 100))  # whose sum nobody has announced
    refused(small.post("/predict", content=in_parts, headers=JSON), 413)
    assert "3 clips" in refused(small.post("/predict/batch", json={"clips": [clip((1, 1, 1))] * 3}), 413)
    scorer = serving.FakeScorer()
    scorer.gate.clear()
    slow = client(scorer, Limits(seconds=0.1))
    assert "within 0.1 seconds" in refused(slow.post("/predict", json=clip()), 503)
    scorer.gate.set()
    assert "busy" in refused(client(limits=Limits(requests=0)).post("/predict", json=clip()), 503)


#: What may stand in the place of numbers, lists and objects.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.lists(st.floats(-2, 2) | VALUES, min_size=1, max_size=4), max_size=7)
CLIPS = st.fixed_dictionaries({}, optional=dict.fromkeys(("text", "audio", "vision", "x"), ROWS | VALUES))
BODIES = st.one_of(
    st.binary(max_size=40),
    VALUES.map(lambda value: json.dumps(value).encode()),
    CLIPS.map(lambda value: json.dumps(value).encode()),
    st.tuples(CLIPS, st.integers(0, 60)).map(lambda pair: json.dumps(clip() | pair[0]).encode()[: -pair[1]]),
    st.lists(CLIPS | st.just(clip()), max_size=3).map(lambda c: json.dumps({"clips": c}).encode()),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, address=st.sampled_from(["/predict", "/predict/batch"]))
def test_whatever_comes_is_answered_or_refused(fuzzed, body, address):
    response = fuzzed.post(address, content=body, headers=JSON)
    if response.status_code != 200:
        assert 400 <= response.status_code < 500
        refused(response, response.status_code)


@pytest.fixture
def fuzzed(client):
    with client() as entered:  # one event loop for all examples
        yield entered


def test_a_file_is_scored_and_gone(client, folder):
    scorer = serving.FakeMedia()
    asked = client(scorer)
    form = {"window": "2.5", "stride": "0.5"}
    found = asked.post("/predict", files={"file": ("../a/My Clip.WebM", b"x" * 2_000_000)}, data=form)
    assert found.json() == json.loads(json.dumps(serving.MEDIA))
    [(path, content, window, stride)] = scorer.files
    assert (path.name, path.parent.parent, len(content)) == ("clip.webm", folder, 2_000_000)
    assert (window, stride) == (2.5, 0.5)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "data", "status", "sentence"),
    [
        ({"file": ("a.mp4", b"no clip")}, {}, 400, "the file holds neither pictures nor sound"),
        ({"file": ("a.mp4", b"bug")}, {}, 500, "its own output"),
        ({"file": ("a.mp4", b"")}, {}, 400, "empty"),
        ({"fiel": ("a.mp4", b"x")}, {}, 400, "Did you mean 'file'?"),
        ({"window": ("a.mp4", b"x")}, {}, 400, "no file"),
        ({"file": ("a.mp4", b"x")}, {"window": "nan"}, 400, "window is a number of seconds"),
        ({"file": ("a.mp4", b"x")}, {"stride": "0"}, 400, "stride is a number of seconds"),
        ([("file", ("a", b"x")), ("file", ("b", b"y"))], {}, 400, "cannot be read"),
        ({"file": (None, b"x")}, {}, 400, "no file"),
    ],
)
def test_a_file_that_cannot_be_scored_is_gone_too(client, folder, files, data, status, sentence):
    asked = client(serving.FakeMedia())
    assert sentence in refused(asked.post("/predict", files=files, data=data), status)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=a", b"nothing of the kind"),
        ("multipart/form-data; boundary=a", b"--a\r\n\r\nx\r\n--a--\r\n"),
        (
            "multipart/form-data; boundary=a; charset=none",
            b'--a\r\nContent-Disposition: form-data; name="\xff',
        ),
    ],
)
def test_a_broken_form_is_one_sentence(client, kind, body):
    response = client(serving.FakeMedia()).post("/predict", content=body, headers={"content-type": kind})
    refused(response, 400)


def test_a_server_without_extractors_and_one_with_too_much_to_do(client):
    assert "features only" in refused(client().post("/predict", files={"file": b"x"}), 501)
    busy = client(serving.FakeMedia(), Limits(uploads=0))
    assert "busy" in refused(busy.post("/predict", files={"file": b"x"}), 503)


def begin(port, body, kind, length=None):
    """A connection on which a request was sent, as far as ``body`` goes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("POST", "/predict")
    connection.putheader("content-type", kind)
    connection.putheader("content-length", str(length or len(body)))
    connection.endheaders(body)
    return connection


def until(true) -> None:
    """Waits for something that is about to be so."""
    for _ in range(400):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it has not come to pass")


def test_a_client_that_hangs_up_leaves_nothing(folder):
    serving.lacking()
    scorer = serving.FakeMedia()
    app = apps.create_app(scorer, Limits(uploads=1))
    head = b'--a\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    form = "multipart/form-data; boundary=a"
    with serving.served(app) as port:
        half = begin(port, head + b"x" * 3_000_000, form, length=4_000_000)
        until(lambda: any(folder.iterdir()))
        half.close()
        until(lambda: not any(folder.iterdir()))
        scorer.gate.clear()
        whole = begin(port, head + b"x\r\n--a--\r\n", form)
        until(lambda: scorer.files)
        assert any(folder.iterdir())
        whole.close()
        until(lambda: not any(folder.iterdir()))
        first = begin(port, json.dumps(clip(value=0.1)).encode(), JSON["content-type"])
        until(scorer.entered.is_set)  # else both may be scored together
        second = begin(port, json.dumps(clip(value=0.2)).encode(), JSON["content-type"])
        until(lambda: len(app.state.service.batcher) == 1)
        second.close()
        until(lambda: len(app.state.service.batcher) == 0)
        scorer.gate.set()
        assert first.getresponse().read().startswith(b'{"score": 0.1')
        first.close()
    assert scorer.calls == [1]


def test_what_waits_together_is_scored_together():
    serving.lacking()
    scorer = serving.FakeScorer()
    app = apps.create_app(scorer)
    found = {}

    def ask(port, value):
        connection = begin(port, json.dumps(clip(value=value)).encode(), JSON["content-type"])
        found[value] = json.loads(connection.getresponse().read())["score"]
        connection.close()

    with serving.served(app) as port:
        scorer.gate.clear()
        threads = [threading.Thread(target=ask, args=(port, float(k))) for k in range(5)]
        threads[0].start()
        until(scorer.entered.is_set)  # else the first may be scored with others that came meanwhile
        for thread in threads[1:]:
            thread.start()
        until(lambda: len(app.state.service.batcher) == 4)
        scorer.gate.set()
        for thread in threads:
            thread.join(20)
    assert found == {float(k): float(k) for k in range(5)}
    assert scorer.calls == [1, 4]


def test_a_request_that_does_not_arrive_is_ended():
    serving.lacking()
    with serving.served(apps.create_app(serving.FakeScorer(), Limits(seconds=0.2))) as port:
        connection = begin(port, b"{", JSON["content-type"], length=100)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())) == (
            408,
            {"error": "the request did not arrive within 0.2 seconds."},
        )
        connection.close()


def test_a_request_at_work_is_told_that_the_server_stops():
    serving.lacking()
    scorer = serving.FakeScorer()
    scorer.gate.clear()
    with serving.served(apps.create_app(scorer), grace=0) as port:
        connection = begin(port, json.dumps(clip()).encode(), JSON["content-type"])
        until(scorer.entered.is_set)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())) == (503, {"error": "the server is stopping."})
    connection.close()
    scorer.gate.set()


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(apps.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(RunError, match=r"pip install 'msa_jax\[serve\]'"):
        apps.require()

//! The routes with a real kernel behind them.
//!
//! `SANDBOXD_TEST_PYTHON` names a Python interpreter that has ipykernel; without it these tests say so and leave the
//! matter to the end-to-end suite, which runs them inside a sandbox.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::{Interpreter, router};
use crate::process::launch::Launcher;
use crate::process::reaper::{Adoption, Reaper};
use crate::state::{AccessToken, AgentState, Settings, SharedState};

/// A sandbox of one directory with the interpreter's routes.
struct Sandbox {
    dir: TempDir,
    state: SharedState,
    router: Router,
}

impl Sandbox {
    /// None, with the reason printed, when there is no Python to test with.
    fn new() -> Option<Self> {
        let Some(python) = std::env::var_os("SANDBOXD_TEST_PYTHON").map(PathBuf::from) else {
            eprintln!(
                "not tested here: SANDBOXD_TEST_PYTHON names no Python with ipykernel; \
                 the end-to-end tests run these cells inside a sandbox"
            );
            return None;
        };
        Some(Self::with_path(python.parent()?, None))
    }

    fn with_path(bin: &Path, access_token: Option<&str>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        let home = dir.path().join("home").display().to_string();
        let passwd = format!("user:x:{}:{}::{home}:/bin/sh\n", uid.as_raw(), gid.as_raw());
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        let mut settings = Settings {
            configured: true,
            code_interpreter: true,
            access_token: access_token.and_then(|token| AccessToken::new(token.into())),
            ..Settings::default()
        };
        settings
            .env
            .insert("PATH".into(), format!("{}:/usr/bin:/bin", bin.display()));
        settings.env.insert("SEED".into(), "one".into());
        let state = AgentState::with_settings(dir.path(), settings);
        let reaper = Reaper::new(Adoption::OwnOnly);
        reaper.start().unwrap();
        let launcher = Launcher::new(reaper.clone(), None);
        let interpreter = Interpreter::new(state.clone(), launcher, reaper, dir.path().join("run"));
        Self {
            dir,
            state,
            router: router(interpreter),
        }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (StatusCode, Body) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        (response.status(), response.into_body())
    }

    async fn json(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, body) = self.call(method, path, body).await;
        let bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(
            status,
            StatusCode::OK,
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        serde_json::from_slice(&bytes).unwrap()
    }

    async fn text(&self, method: &str, path: &str, body: Value) -> (StatusCode, String) {
        let (status, body) = self.call(method, path, body).await;
        let bytes = body.collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    /// All events of an execution; the last one is checked and left out, keepalives too.
    async fn execute(&self, request: Value) -> Vec<Value> {
        let (status, body) = self.call("POST", "/execute", request).await;
        assert_eq!(status, StatusCode::OK);
        events(body).await
    }

    async fn run(&self, code: &str) -> Vec<Value> {
        self.execute(json!({"code": code})).await
    }
}

async fn events(body: Body) -> Vec<Value> {
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let mut events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        events.pop(),
        Some(json!({"type": "end_of_execution"})),
        "{text}"
    );
    events.retain(|event| event["type"] != "keepalive");
    events
}

fn of_type<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["type"] == kind)
        .collect()
}

fn stdout(events: &[Value]) -> String {
    of_type(events, "stdout")
        .iter()
        .filter_map(|event| event["text"].as_str())
        .collect()
}

/// The text of the cell's own value.
fn value(events: &[Value]) -> Option<&str> {
    of_type(events, "result")
        .into_iter()
        .find(|event| event["is_main_result"] == true)
        .and_then(|event| event["text"].as_str())
}

#[tokio::test]
async fn cells_share_state_and_are_counted() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    assert_eq!(
        sandbox.json("GET", "/health", json!(null)).await,
        json!("OK")
    );
    let events = sandbox.run("x = 20\nprint('hi')\nx + 1").await;
    assert_eq!(
        events[0],
        json!({"type": "number_of_executions", "execution_count": 1})
    );
    assert_eq!(stdout(&events), "hi\n");
    assert!(
        of_type(&events, "stdout")[0]["timestamp"]
            .as_str()
            .unwrap()
            .contains('T')
    );
    assert_eq!(value(&events), Some("21"));
    let events = sandbox.run("x + 2").await;
    assert_eq!(events[0]["execution_count"], 2);
    assert_eq!(value(&events), Some("22"));
    assert_eq!(
        value(&sandbox.run("'text'").await),
        Some("text"),
        "quotes are taken off"
    );
    assert!(of_type(&sandbox.run("").await, "error").is_empty());
}

#[tokio::test]
async fn ipython_is_what_runs() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let events = sandbox
        .run("import asyncio\nawait asyncio.sleep(0)\nout = !echo from shell\n%pwd\n")
        .await;
    let home = sandbox.dir.path().join("home").canonicalize().unwrap();
    assert_eq!(value(&events), home.to_str());
    let events = sandbox
        .run("import sys, warnings\ndisplay(out[0])\nprint('e', file=sys.stderr)\n!echo direct")
        .await;
    let shown = of_type(&events, "result");
    assert_eq!(shown[0]["text"], "from shell");
    assert_eq!(shown[0]["is_main_result"], false);
    assert_eq!(of_type(&events, "stderr")[0]["text"], "e\n");
    assert!(stdout(&events).contains("direct"));
}

#[tokio::test]
async fn exceptions_have_name_value_and_traceback() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let events = sandbox
        .run("def f():\n    raise ValueError('no')\nf()")
        .await;
    let errors = of_type(&events, "error");
    assert_eq!(errors.len(), 1, "{events:?}");
    assert_eq!(
        (&errors[0]["name"], &errors[0]["value"]),
        (&json!("ValueError"), &json!("no"))
    );
    assert!(
        errors[0]["traceback"]
            .as_str()
            .unwrap()
            .contains("ValueError")
    );
    let events = sandbox.run("1 +").await;
    assert_eq!(of_type(&events, "error")[0]["name"], "SyntaxError");
    let events = sandbox.run("input()").await;
    assert_eq!(
        of_type(&events, "error")[0]["name"],
        "StdinNotImplementedError"
    );
    assert_eq!(
        value(&sandbox.run("1").await),
        Some("1"),
        "the kernel goes on"
    );
}

#[tokio::test]
async fn variables_of_a_call_are_put_back_even_after_an_error() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let show = "import os\n[os.environ.get(k) for k in ('SEED', 'A', 'B')]";
    let env = json!({"A": "it's \"a\"\n", "SEED": "mine"});
    let events = sandbox
        .execute(json!({"code": show, "env_vars": env}))
        .await;
    assert_eq!(value(&events), Some("['mine', 'it\\'s \"a\"\\n', None]"));
    assert_eq!(
        events[0]["execution_count"], 1,
        "the hidden cells are not counted"
    );
    let events = sandbox
        .execute(json!({"code": "1/0", "env_vars": {"B": "b"}}))
        .await;
    assert_eq!(of_type(&events, "error")[0]["name"], "ZeroDivisionError");
    assert_eq!(value(&sandbox.run(show).await), Some("['one', None, None]"));
    sandbox.state.update(|settings| {
        settings.env.insert("A".into(), "later".into());
        settings.env.remove("SEED");
    });
    assert_eq!(
        value(&sandbox.run(show).await),
        Some("[None, 'later', None]")
    );
    assert_eq!(
        value(
            &sandbox
                .run("[n for n in dir() if 'env' in n or 'given' in n]")
                .await
        ),
        Some("[]")
    );
    let bad = json!({"code": "1", "env_vars": {"A-B": "1"}});
    assert_eq!(
        sandbox.text("POST", "/execute", bad).await.0,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn contexts_are_apart_and_can_be_restarted_and_deleted() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let cwd = sandbox.dir.path().canonicalize().unwrap();
    let made = sandbox.json("POST", "/contexts", json!({"cwd": cwd})).await;
    let id = made["id"].as_str().unwrap();
    assert_eq!(made, json!({"id": id, "language": "python", "cwd": cwd}));
    let in_it = |code: &str| json!({"code": code, "context_id": id});
    let events = sandbox
        .execute(in_it("import os\ny = 1\nos.getcwd()"))
        .await;
    assert_eq!(value(&events), cwd.to_str());
    let events = sandbox.run("y").await;
    assert_eq!(of_type(&events, "error")[0]["name"], "NameError");
    let listed = sandbox.json("GET", "/contexts", json!(null)).await;
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0], made, "in the order of their making");

    let path = format!("/contexts/{id}/restart");
    assert_eq!(sandbox.json("POST", &path, json!(null)).await, json!(null));
    let events = sandbox.execute(in_it("y")).await;
    assert_eq!(of_type(&events, "error")[0]["name"], "NameError");
    assert_eq!(events[0]["execution_count"], 1);

    let path = format!("/contexts/{id}");
    assert_eq!(
        sandbox.json("DELETE", &path, json!(null)).await,
        json!(null)
    );
    let (status, text) = sandbox.text("POST", "/execute", in_it("1")).await;
    assert_eq!(
        (status, text),
        (StatusCode::NOT_FOUND, format!("Context {id} not found"))
    );
    assert_eq!(
        sandbox.text("DELETE", &path, json!(null)).await.0,
        StatusCode::NOT_FOUND
    );
    let both = json!({"code": "1", "context_id": "x", "language": "python"});
    assert_eq!(
        sandbox.text("POST", "/execute", both).await.0,
        StatusCode::BAD_REQUEST
    );
    let bad = json!({"cwd": "/no/such/directory"});
    let (status, text) = sandbox.text("POST", "/contexts", bad).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("/no/such/directory"), "{text}");
    assert_eq!(
        sandbox
            .json("GET", "/contexts", json!(null))
            .await
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let directories = std::fs::read_dir(sandbox.dir.path().join("run"))
        .unwrap()
        .count();
    assert_eq!(directories, 1, "ended kernels leave nothing behind");
}

#[tokio::test]
async fn output_comes_while_the_cell_runs() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    sandbox.run("import time").await;
    let code = "print('early', flush=True)\ntime.sleep(2)\nprint('late')";
    let started = Instant::now();
    let (_, mut body) = sandbox
        .call("POST", "/execute", json!({"code": code}))
        .await;
    loop {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        if String::from_utf8_lossy(&frame).contains("early") {
            break;
        }
    }
    assert!(
        started.elapsed() < Duration::from_millis(1900),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(stdout(&events(body).await), "late\n");
}

#[tokio::test]
async fn a_client_that_leaves_interrupts_its_cell() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    sandbox.run("import time\nseen = []").await;
    let code = "try:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    seen.append('stopped')";
    let (_, mut body) = sandbox
        .call("POST", "/execute", json!({"code": code}))
        .await;
    body.frame().await.unwrap().unwrap();
    drop(body);
    let waiting = sandbox.run("seen");
    let events = tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("its turn");
    assert_eq!(value(&events), Some("['stopped']"));
}

#[tokio::test]
async fn cells_of_one_context_wait_for_each_other_and_not_for_others() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let other = sandbox.json("POST", "/contexts", json!({})).await["id"].clone();
    sandbox.run("import time\norder = []").await;
    let slow = sandbox.run("time.sleep(1.5)\norder.append(1)");
    let next = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        sandbox.run("order.append(2)\norder").await
    };
    let started = Instant::now();
    let apart = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        sandbox
            .execute(json!({"code": "1", "context_id": other}))
            .await;
        started.elapsed()
    };
    let (_, next, apart) = tokio::join!(slow, next, apart);
    assert_eq!(value(&next), Some("[1, 2]"));
    assert!(apart < Duration::from_millis(1400), "{apart:?}");
}

#[tokio::test]
async fn a_kernel_that_dies_is_told_and_replaced() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let events = sandbox
        .run("z = 1\nimport os\nos.kill(os.getpid(), 9)")
        .await;
    let error = of_type(&events, "error")[0];
    assert_eq!(error["name"], "UnexpectedEndOfExecution");
    assert!(
        error["value"].as_str().unwrap().contains("killed"),
        "{error}"
    );
    let events = sandbox.run("z").await;
    assert_eq!(of_type(&events, "error")[0]["name"], "NameError");
    assert_eq!(
        sandbox
            .json("GET", "/contexts", json!(null))
            .await
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_running_cell_is_told_of_restart_and_deletion() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    for (method, path, name) in [
        ("POST", "/restart", "ContextRestarting"),
        ("DELETE", "", "UnexpectedEndOfExecution"),
    ] {
        let id = sandbox.json("POST", "/contexts", json!({})).await["id"].clone();
        let id = id.as_str().unwrap();
        let request = json!({"code": "import time\ntime.sleep(600)", "context_id": id});
        let (_, mut body) = sandbox.call("POST", "/execute", request).await;
        body.frame().await.unwrap().unwrap();
        let answer = sandbox
            .json(method, &format!("/contexts/{id}{path}"), json!(null))
            .await;
        assert_eq!(answer, json!(null));
        let events = events(body).await;
        assert_eq!(of_type(&events, "error")[0]["name"], name, "{events:?}");
    }
}

#[tokio::test]
async fn large_output_arrives_whole_and_a_larger_result_is_named() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let events = sandbox.run("for i in range(20000): print('x' * 99)").await;
    assert_eq!(stdout(&events).len(), 2_000_000);
    let events = sandbox
        .run("class Big:\n  def _repr_html_(self): return 'x' * (70 << 20)\nBig()")
        .await;
    let errors = of_type(&events, "error");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0]["name"], "OutputTooLarge");
    assert_eq!(value(&sandbox.run("1").await), Some("1"));
}

/// The extension that the image's kernels load, loaded here by hand.
#[tokio::test]
async fn values_are_shown_as_data_charts_and_json() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let extension = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../images/code-interpreter-v1/files/etc/ipython");
    let load = format!(
        "import sys\nsys.path.append({extension:?})\n%load_ext sandboxd_display\n\
         'pandas' in sys.modules or 'matplotlib' in sys.modules"
    );
    assert_eq!(
        value(&sandbox.run(&load).await),
        Some("False"),
        "nothing heavy is imported"
    );
    let main = async |code: &str| {
        let events = sandbox.run(code).await;
        let results = of_type(&events, "result");
        results
            .last()
            .map(|result| (*result).clone())
            .unwrap_or_else(|| panic!("{events:?}"))
    };
    let list = main("[1, {'a': (2, None), 3: float('nan')}]").await;
    assert_eq!(list["json"], json!([1, {"a": [2, null], "3": null}]));
    assert_eq!(list["text"], "[1, {'a': (2, None), 3: nan}]");
    assert_eq!(main("[object()]").await.get("json"), None);
    assert_eq!(main("a = []\na.append(a)\na").await.get("json"), None);
    assert_eq!(main("'text'").await.get("json"), None);

    let found = sandbox.run("import pandas, matplotlib, e2b_charts").await;
    if !of_type(&found, "error").is_empty() {
        eprintln!(
            "not tested here: the Python of SANDBOXD_TEST_PYTHON lacks pandas, matplotlib or \
             e2b-charts; the end-to-end tests draw and tabulate inside a sandbox"
        );
        return;
    }
    let frame = main(
        "import pandas as pd\npd.DataFrame({'d': pd.to_datetime(['2024-01-02', None]), \
         'x': [1.5, float('nan')], 'o': [object, 'b']})",
    )
    .await;
    assert_eq!(frame["data"]["d"], json!(["2024-01-02T00:00:00", null]));
    assert_eq!(frame["data"]["x"], json!([1.5, null]));
    assert_eq!(frame["data"]["o"], json!(["<class 'object'>", "b"]));
    assert!(frame["html"].as_str().unwrap().contains("<table"));

    let figure =
        main("import matplotlib.pyplot as plt\nplt.plot([1, 2], [3, 4])\nplt.show()").await;
    assert!(figure["png"].as_str().unwrap().starts_with("iVBORw0KGgo"));
    assert_eq!(figure["chart"]["type"], "line");
    assert_eq!(
        figure["chart"]["elements"][0]["points"],
        json!([[1.0, 3.0], [2.0, 4.0]])
    );
    assert_eq!(figure["is_main_result"], false);
    let blank = main("plt.figure()\nplt.show()").await;
    assert_eq!(blank.get("chart"), None);
}

#[tokio::test]
async fn a_language_without_a_kernel_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_path(&dir.path().join("bin"), None);
    for request in [
        json!({"code": "1", "language": "cobol"}),
        json!({"code": "1", "language": "../x"}),
    ] {
        let (status, text) = sandbox.text("POST", "/execute", request).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.contains("no kernel for language"), "{text}");
    }
    let (status, _) = sandbox
        .text("POST", "/contexts", json!({"language": "cobol"}))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = sandbox
        .text("POST", "/execute", json!({"nonsense": 1}))
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_kernel_that_does_not_start_is_a_status_with_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("share/jupyter/kernels/python3");
    std::fs::create_dir_all(&spec).unwrap();
    std::fs::write(
        spec.join("kernel.json"),
        json!({"argv": ["/bin/sh", "-c", "echo out of luck >&2; exit 3"]}).to_string(),
    )
    .unwrap();
    let sandbox = Sandbox::with_path(&dir.path().join("bin"), None);
    // Again: the failed context tries once more.
    for _ in 0..2 {
        let (status, text) = sandbox.text("POST", "/execute", json!({"code": "1"})).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(text.contains("exit code 3: out of luck"), "{text}");
    }
}

#[tokio::test]
async fn only_execute_asks_for_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::with_path(&dir.path().join("bin"), Some("t"));
    let (status, _) = sandbox.text("POST", "/execute", json!({"code": "1"})).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        sandbox.json("GET", "/contexts", json!(null)).await,
        json!([])
    );
    sandbox.state.update(|settings| settings.configured = false);
    let (status, _) = sandbox.text("POST", "/execute", json!({"code": "1"})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

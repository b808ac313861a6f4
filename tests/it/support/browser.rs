//! A real browser, driven over WebDriver (<https://www.w3.org/TR/webdriver2/>) by Chromium's own
//! chromedriver.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;

use base64::Engine as _;
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, MutexGuard};

use super::{http as web, soon, suite};

pub const ENTER: &str = "\u{e007}";
pub const TAB: &str = "\u{e004}";
pub const SHIFT: &str = "\u{e008}";
/// Releases all held keys.
pub const RELEASE: &str = "\u{e000}";

/// A name for this machine that the browser does not treat as local.
pub const ELSEWHERE: &str = "chat.test";

/// A browser takes a core and 200 MB, so only one test at a time uses browsers.
static ONE_TEST: Mutex<()> = Mutex::const_new(());

/// A running chromedriver, which starts browsers.
#[derive(Debug)]
pub struct Driver {
    /// The process, which is killed on drop.
    _child: Child,
    address: SocketAddr,
    /// The temporary files of the browsers.
    folder: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

/// A browser with a new, empty profile.
#[derive(Debug)]
pub struct Browser {
    address: SocketAddr,
    session: String,
    /// The process id of the browser, which would outlive a failed test.
    process: u64,
}

/// Starts the driver, whose browsers use this time zone.
pub async fn driver(zone: &str) -> Driver {
    suite::require("chromedriver", "chromium-driver");
    let turn = ONE_TEST.lock().await;
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("browser-{}", std::process::id()));
    let mut command = Command::new("chromedriver");
    command
        .args(["--port=0"])
        .env("TZ", zone)
        .env("TMPDIR", &folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut child = command.kill_on_drop(true).spawn().expect("chromedriver starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
    let port = loop {
        let line = soon("chromedriver", lines.next_line()).await.expect("text").expect("it goes on");
        if let Some(port) = line.split("successfully on port ").nth(1) {
            break port.trim_end_matches('.').parse().expect("a port");
        }
    };
    // The driver keeps printing, and must not block on a full pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Driver { _child: child, address: (Ipv4Addr::LOCALHOST, port).into(), folder, _turn: turn }
}

impl Driver {
    /// Opens a page in a new browser.
    pub async fn open(&self, url: &str) -> Browser {
        // Root and containers cannot have the sandbox, and containers have little shared memory.
        let options = json!({"args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
            "--hide-scrollbars", "--window-size=1280,800", format!("--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1")]});
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let body = json!({"capabilities": {"alwaysMatch": wanted}});
        let answer = call(self.address, Method::POST, "/session", Some(body)).await;
        let session = answer["sessionId"].as_str().expect("a session").to_owned();
        let process = answer["capabilities"]["goog:processID"].as_u64().expect("a process");
        let browser = Browser { address: self.address, session, process };
        browser.go(url).await;
        browser
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // The last processes of a killed browser may still write to the folder.
        for _ in 0..50 {
            if std::fs::remove_dir_all(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let kill = format!("kill -KILL {} 2>&1", self.process);
        let _ = std::process::Command::new("sh").args(["-c", &kill]).output();
    }
}

async fn call(address: SocketAddr, method: Method, path: &str, body: Option<Value>) -> Value {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let answer = web::call(address, method, path, &[], body).await;
    let value = answer.json()["value"].clone();
    assert_eq!(answer.status, 200, "{path}: {value:#}");
    value
}

impl Browser {
    async fn command(&self, method: Method, what: &str, body: Option<Value>) -> Value {
        call(self.address, method, &format!("/session/{}{what}", self.session), body).await
    }

    pub async fn go(&self, url: &str) {
        self.command(Method::POST, "/url", Some(json!({"url": url}))).await;
    }

    pub async fn reload(&self) {
        self.command(Method::POST, "/refresh", Some(json!({}))).await;
    }

    /// Runs a script in the page, and returns its result.
    pub async fn run(&self, script: &str, arguments: Value) -> Value {
        self.command(Method::POST, "/execute/sync", Some(json!({"script": script, "args": arguments}))).await
    }

    /// Evaluates an expression in the page.
    pub async fn get(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}"), json!([])).await
    }

    /// Waits until an expression is true in the page.
    pub async fn wait(&self, expression: &str) {
        let waited = super::until("the page", async || (self.get(expression).await == true).then_some(()));
        let waited = std::panic::AssertUnwindSafe(waited);
        if futures_util::FutureExt::catch_unwind(waited).await.is_err() {
            let text = self.get("document.body.innerText.slice(-3000)").await;
            panic!("never: {expression}\nthe page says: {text:#}\nthe console: {:?}", self.console().await);
        }
    }

    /// Types on the keyboard, into the focused element.
    pub async fn keys(&self, keys: &str) {
        let active = self.command(Method::GET, "/element/active", None).await;
        let id = active.as_object().and_then(|element| element.values().next()).and_then(Value::as_str).expect("an id");
        self.command(Method::POST, &format!("/element/{id}/value"), Some(json!({"text": keys}))).await;
    }

    /// Clicks with the mouse.
    pub async fn click(&self, selector: &str) {
        let element = json!({"using": "css selector", "value": selector});
        let element = self.command(Method::POST, "/element", Some(element)).await;
        let id =
            element.as_object().and_then(|element| element.values().next()).and_then(Value::as_str).expect("an id");
        self.command(Method::POST, &format!("/element/{id}/click"), Some(json!({}))).await;
    }

    /// Sends a command of the Chrome DevTools protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) {
        self.command(Method::POST, "/goog/cdp/execute", Some(json!({"cmd": command, "params": parameters}))).await;
    }

    /// Sets the size of the screen, in CSS pixels.
    pub async fn screen(&self, width: u32, height: u32, scale: f64) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    pub async fn colors(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Takes a screenshot as PNG.
    pub async fn screenshot(&self) -> Vec<u8> {
        let picture = self.command(Method::GET, "/screenshot", None).await;
        base64::engine::general_purpose::STANDARD.decode(picture.as_str().expect("base64")).expect("base64")
    }

    /// The new lines of the console. Failed requests are left out: with the client away they are
    /// expected.
    pub async fn console(&self) -> Vec<String> {
        let lines = self.command(Method::POST, "/se/log", Some(json!({"type": "browser"}))).await;
        let lines = lines.as_array().expect("lines").iter().filter(|line| line["source"] != "network");
        lines.map(ToString::to_string).collect()
    }

    /// Fails if the console has any lines.
    pub async fn close(self) {
        let console = self.console().await;
        assert!(console.is_empty(), "the console says: {console:#?}");
    }
}

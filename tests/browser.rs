//! The page, in a real browser: people talk, whatever happens to the server and to the client meanwhile, and whatever they say.
//!
//! Needs Debian's `chromium` and `chromium-driver`. Without them these tests skip, and say so; where the variable `CI` is `true` they
//! fail.

mod support;

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use support::browser::{Browser, Driver, ENTER, RELEASE, SHIFT, TAB, driver};
use support::program::{self, CLIENT, Program, server_at};
use support::{http, post};

/// India is 5:30 ahead: a time that was not put into local form is seen by its minutes.
const ZONE: &str = "Asia/Kolkata";

/// The texts of all messages, in their order.
const TEXTS: &str = "[...document.querySelectorAll('#log .text')].map(text => text.textContent)";

/// Starts the client's program on this port, 0 for any.
async fn client(server: SocketAddr, port: u16, more: &[(&str, &str)]) -> (Program, SocketAddr) {
    let (server, port) = (server.to_string(), port.to_string());
    let variables = [("MESSENGER_SERVER_ADDR", server.as_str()), ("MESSENGER_HTTP_PORT", &port)];
    let mut client = program::start(CLIENT, &[&variables, more].concat());
    let address = client.address("client listening").await;
    client.line("stream open").await;
    (client, address)
}

async fn open(driver: &Driver, client: SocketAddr) -> Browser {
    let browser = driver.open(&format!("http://{client}/")).await;
    browser.wait(CONNECTED).await;
    browser
}

const CONNECTED: &str = "document.getElementById('state').textContent === 'Connected'";

fn says(text: &str) -> String {
    format!("{TEXTS}.includes({})", json!(text))
}

/// Writes a message with the keyboard, where the focus is after the one before.
async fn say(browser: &Browser, text: &str) {
    browser.keys(&format!("{text}{ENTER}")).await;
    browser.wait(&says(text)).await;
}

async fn texts(browser: &Browser) -> Vec<String> {
    let texts = browser.get(TEXTS).await;
    texts.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_whatever_goes_away() {
    let Some(driver) = driver(ZONE).await else { return };
    let server_address = (Ipv4Addr::LOCALHOST, support::fixed_port()).into();
    let mut server = server_at(server_address).await;
    let (_one, one) = client(server_address, 0, &[]).await;
    let port = support::fixed_port();
    let (mut other_client, other) = client(server_address, port, &[]).await;

    let alice = open(&driver, one).await;
    let bob = open(&driver, other).await;
    // With the keyboard alone: the focus is where one begins.
    alice.keys(&format!("alice{TAB}hey{SHIFT}{ENTER}{RELEASE}you{ENTER}")).await;
    bob.wait(&says("hey\nyou")).await;
    bob.keys(&format!("bob{TAB}")).await;
    say(&bob, "hello alice").await;
    alice.wait(&says("hello alice")).await;
    assert_eq!(texts(&alice).await, ["hey\nyou", "hello alice"]);
    let own = "[...document.querySelectorAll('.own .text')].map(text => text.textContent)";
    alice.wait(&format!("String({own}) === 'hey\\nyou'")).await;
    bob.wait(&format!("String({own}) === 'hello alice'")).await;
    assert_eq!(bob.get("document.querySelector('article b').textContent").await, "alice");
    assert_eq!(alice.get("document.querySelectorAll('#outbox *').length").await, 0, "nothing is on its way any more");
    // In local form, with the whole of it in the attributes.
    let time = alice.get("document.querySelector('time').dateTime").await;
    let minute: u32 = time.as_str().unwrap()[14..16].parse().unwrap();
    let local = alice.get("document.querySelector('time').textContent").await;
    assert_eq!(local.as_str().unwrap()[3..5].parse::<u32>().unwrap(), (minute + 30) % 60, "{time} is {local}");
    assert_eq!(alice.get("document.querySelectorAll('h2.day').length").await, 1);

    // The server goes, and another one comes.
    server.signal("KILL");
    server.exit().await;
    for browser in [&alice, &bob] {
        browser.wait("document.getElementById('state').textContent.startsWith('The server is away.')").await;
    }
    // What is sent meanwhile waits for it.
    alice.keys(&format!("are you there?{ENTER}")).await;
    alice.wait("document.querySelector('#outbox .waits .text').textContent === 'are you there?'").await;
    let mut server = server_at(server_address).await;
    for browser in [&alice, &bob] {
        browser.wait(CONNECTED).await;
        browser.wait(&says("are you there?")).await;
        assert_eq!(browser.get("document.querySelectorAll('.gap').length").await, 1);
        let next = browser.get("document.querySelector('.gap').nextElementSibling?.innerText").await;
        assert!(next.as_str().is_some_and(|text| text.contains("are you there?")), "the gap is in its place: {next}");
    }
    say(&bob, "again").await;
    alice.wait(&says("again")).await;

    // Who comes again finds the name and the marks.
    alice.reload().await;
    alice.wait(&says("again")).await;
    assert_eq!(alice.get("document.getElementById('name').value").await, "alice");
    assert_eq!(alice.get("document.activeElement.id").await, "text");
    assert_eq!(alice.get(own).await, json!(["hey\nyou", "are you there?"]));

    // Bob's client goes, and comes again on its port.
    other_client.signal("KILL");
    other_client.exit().await;
    bob.wait("document.getElementById('state').textContent.startsWith('Your client is away.')").await;
    bob.keys(&format!("nobody hears me{ENTER}")).await;
    bob.wait("document.querySelector('.failed .fate').textContent.includes('may or may not be in the chat')").await;
    say(&alice, "bob?").await;
    let (_other, _) = client(server_address, port, &[]).await;
    bob.wait(CONNECTED).await;
    // He has missed something, and is told so; what he could not send he sends again.
    bob.wait("document.querySelectorAll('.gap').length === 2").await;
    bob.click(".failed .link").await;
    for browser in [&alice, &bob] {
        browser.wait(&says("nobody hears me")).await;
    }
    say(&alice, "the end").await;
    bob.wait(&says("the end")).await;
    let expected = ["hey\nyou", "hello alice", "are you there?", "again", "nobody hears me", "the end"];
    assert_eq!(texts(&bob).await, expected, "each once");
    assert_eq!(bob.get("document.querySelectorAll('#outbox *').length").await, 0);

    // None of it was taken from the one who flushes.
    let flushed: Vec<_> = http::flush(one).await.into_iter().map(|message| message.text).collect();
    assert_eq!(flushed, ["hey\nyou", "hello alice", "are you there?", "again", "bob?", "nobody hears me", "the end"]);
    alice.close().await;
    bob.close().await;
    server.signal("TERM");
    server.exit().await;
}

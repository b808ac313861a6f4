//! The page in a real browser: people chat through restarts of the server and of the client, and
//! any text is shown as text.

use std::net::{Ipv4Addr, SocketAddr};

use crate::support;
use crate::support::browser::{Browser, Driver, ELSEWHERE, ENTER, RELEASE, SHIFT, TAB, driver};
use crate::support::program::{self, CLIENT, Program, server_at};
use crate::support::suite::tests;
use crate::support::{http, post};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn tests() -> Vec<Trial> {
    let mut tests = tests![
        two_people_talk_while_servers_and_clients_restart,
        the_page_asks_for_the_token,
        hostile_texts_are_shown_as_text,
        scrolling_up_keeps_the_position,
        ten_thousand_messages_do_not_stutter,
        a_foreign_host_name_shows_nothing_of_the_chat
    ];
    // It writes docs/page.png, so it runs only when asked for.
    tests.extend(tests![pictures].into_iter().map(|test| test.with_ignored_flag(true)));
    tests
}

/// India is 5:30 ahead of UTC, so the minutes show whether a time is local.
const ZONE: &str = "Asia/Kolkata";

/// An expression for the texts of all messages, in their order.
const TEXTS: &str = "[...document.querySelectorAll('#log .text')].map(text => text.textContent)";

/// Starts the client program on this port, or on any with 0.
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

/// Types a message into the focused field.
async fn say(browser: &Browser, text: &str) {
    browser.keys(&format!("{text}{ENTER}")).await;
    browser.wait(&says(text)).await;
}

async fn texts(browser: &Browser) -> Vec<String> {
    let texts = browser.get(TEXTS).await;
    texts.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

async fn two_people_talk_while_servers_and_clients_restart() {
    let driver = driver(ZONE).await;
    let server_address = (Ipv4Addr::LOCALHOST, support::fixed_port()).into();
    let mut server = server_at(server_address).await;
    let (_one, one) = client(server_address, 0, &[]).await;
    let port = support::fixed_port();
    let (mut other_client, _) = client(server_address, port, &[("MESSENGER_HTTP_HOSTS", ELSEWHERE)]).await;

    let alice = open(&driver, one).await;
    // Under the name of another machine, as on a phone: over plain HTTP, browsers give such a page
    // fewer rights.
    let bob = driver.open(&format!("http://{ELSEWHERE}:{port}/")).await;
    bob.wait(CONNECTED).await;
    assert_eq!(bob.get("isSecureContext").await, false);
    // With the keyboard alone: the first field has the focus.
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
    assert_eq!(alice.get("document.querySelectorAll('#outbox *').length").await, 0, "the outbox is empty");
    // The time is local, and complete in the attributes.
    let time = alice.get("document.querySelector('time').dateTime").await;
    let minute: u32 = time.as_str().unwrap()[14..16].parse().unwrap();
    let local = alice.get("document.querySelector('time').textContent").await;
    assert_eq!(local.as_str().unwrap()[3..5].parse::<u32>().unwrap(), (minute + 30) % 60, "{time} is {local}");
    assert_eq!(alice.get("document.querySelectorAll('h2.day').length").await, 1);

    // The server is replaced by another one.
    server.signal("KILL");
    server.exit().await;
    for browser in [&alice, &bob] {
        browser.wait("document.getElementById('state').textContent.startsWith('The server is away.')").await;
    }
    // A message that is sent meanwhile waits for it.
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
    // Another person with the same name.
    post(&mut support::grpc(server_address).await, "alice", "not the same alice").await;
    alice.wait(&says("not the same alice")).await;

    // After a reload the name and the marks are still there.
    alice.reload().await;
    alice.wait(&says("not the same alice")).await;
    assert_eq!(alice.get("document.getElementById('name').value").await, "alice");
    assert_eq!(alice.get("document.activeElement.id").await, "text");
    assert_eq!(alice.get(own).await, json!(["hey\nyou", "are you there?"]));

    // Bob's client restarts on its port.
    other_client.signal("KILL");
    other_client.exit().await;
    bob.wait("document.getElementById('state').textContent.startsWith('Your client is away.')").await;
    bob.keys(&format!("nobody hears me{ENTER}")).await;
    bob.wait("document.querySelector('.failed .fate').textContent.includes('may or may not be in the chat')").await;
    say(&alice, "bob?").await;
    let (_other, _) = client(server_address, port, &[("MESSENGER_HTTP_HOSTS", ELSEWHERE)]).await;
    bob.wait(CONNECTED).await;
    // Bob is told of a gap, and his unsent message is sent again.
    bob.wait("document.querySelectorAll('.gap').length === 2").await;
    bob.click(".failed .link").await;
    for browser in [&alice, &bob] {
        browser.wait(&says("nobody hears me")).await;
    }
    say(&alice, "the end").await;
    bob.wait(&says("the end")).await;
    let expected =
        ["hey\nyou", "hello alice", "are you there?", "again", "not the same alice", "nobody hears me", "the end"];
    assert_eq!(texts(&bob).await, expected, "each message once");
    assert_eq!(bob.get("document.querySelectorAll('#outbox *').length").await, 0);

    // The pages took nothing from the flush.
    let flushed: Vec<_> = http::flush(one).await.into_iter().map(|message| message.text).collect();
    let expected = [
        "hey\nyou",
        "hello alice",
        "are you there?",
        "again",
        "not the same alice",
        "bob?",
        "nobody hears me",
        "the end",
    ];
    assert_eq!(flushed, expected);
    alice.close().await;
    bob.close().await;
    server.signal("TERM");
    server.exit().await;
}

async fn the_page_asks_for_the_token() {
    const STATE: &str = "document.getElementById('state').textContent";
    let driver = driver(ZONE).await;
    let server = support::server(&[]);
    let (_client, client) = client(server.address, 0, &[("MESSENGER_HTTP_TOKEN", "s3cret/+")]).await;
    let browser = driver.open(&format!("http://{client}/")).await;
    browser.wait(&format!("{STATE} === 'This chat asks for a token.'")).await;
    browser.keys(&format!("wrong{ENTER}")).await;
    browser.wait(&format!("{STATE} === 'This is not the token.'")).await;
    browser.get("document.getElementById('token').value = ''").await;
    browser.keys(&format!("s3cret/+{ENTER}")).await;
    browser.wait(CONNECTED).await;
    // The page remembers the token.
    browser.reload().await;
    browser.wait(CONNECTED).await;
    browser.keys(&format!("alice{TAB}")).await;
    say(&browser, "hey").await;

    // A link with the token is enough, and the token does not stay in the address.
    let other = driver.open(&format!("http://{client}/#token=s3cret%2F%2B")).await;
    other.wait(CONNECTED).await;
    other.wait(&says("hey")).await;
    assert_eq!(other.get("location.hash").await, "");
}

async fn hostile_texts_are_shown_as_text() {
    let driver = driver(ZONE).await;
    let (_server, server_address) = program::server(&[]).await;
    let (_client, address) = client(server_address, 0, &[]).await;
    let page = open(&driver, address).await;
    let mut grpc = support::grpc(server_address).await;
    let word = "x".repeat(64 * 1024);
    let lines = "\n".repeat(59);
    let wide = "﷽".repeat(500);
    let heap = format!("Z{}", "\u{0335}\u{0310}".repeat(2_000));
    let texts = [
        "<script>window.hacked = 1</script>",
        "<img src=x onerror='window.hacked = 1'><svg onload='window.hacked = 1'>",
        "javascript:alert(1) &amp; &lt;b&gt; \"'`${7*7}{{7*7}}",
        "\u{202e}gpj.exe\u{2066}\u{2067}",
        "שלום, world",
        "a\r\nid: 5\r\nevent: gap\r\ndata: {}\r\n\r\n\n\nb\u{2028}\u{2029}\u{85}\0\u{b}\u{1b}[2J",
        "",
        " ",
        &lines,
        "Привет 👋🏽",
        &wide,
        &heap,
    ];
    for text in texts {
        post(&mut grpc, "mallory", text).await;
        post(&mut grpc, text, "hey").await;
    }
    post(&mut grpc, "mallory", &word).await;
    post(&mut grpc, "mallory", &"\n".repeat(60)).await;
    post(&mut grpc, "mallory", "the end").await;
    page.wait(&says("the end")).await;

    let mut expected: Vec<&str> = texts.iter().flat_map(|text| [*text, "hey"]).collect();
    let cut = format!("{} …", &word[..10_000]);
    let cut_lines = format!("{lines} …");
    expected.extend([cut.as_str(), &cut_lines, "the end"]);
    assert_eq!(self::texts(&page).await, expected, "to the character");
    let authors = page.get("[...document.querySelectorAll('article b')].map(name => name.textContent)").await;
    for (number, text) in texts.iter().enumerate() {
        let name = if text.is_empty() { "nobody" } else { text };
        assert_eq!(authors[2 * number + 1], name);
    }
    // A name with a direction mark does not change the direction of the rest.
    let reversed = "[...document.querySelectorAll('article header')].every(head => \
        head.querySelector('b').getBoundingClientRect().right <= head.querySelector('time').getBoundingClientRect().left + 1)";
    assert_eq!(page.get(reversed).await, true);

    let fits = "[document.scrollingElement, ...document.querySelectorAll('#view, .text')]\
        .every(box => box.scrollWidth <= box.clientWidth)";
    for all in [false, true] {
        if all {
            page.click("article .link").await;
            page.wait(&says(&word)).await;
        }
        for width in [320, 360, 768, 1280] {
            page.screen(width, 740, 1.0).await;
            page.wait(&format!("innerWidth === {width}")).await;
            assert_eq!(page.get(fits).await, true, "nothing is wider than a screen of {width}");
        }
    }
    // The same texts, typed into the page.
    page.run("document.getElementById('name').value = arguments[0]", json!(["<b>mallory</b>"])).await;
    page.run(
        "document.getElementById('text').value = arguments[0]; document.getElementById('text').focus()",
        json!([texts[0]]),
    )
    .await;
    page.keys(ENTER).await;
    page.wait("[...document.querySelectorAll('#log .own .text')].length === 1").await;
    assert_eq!(page.get("document.querySelector('.own .text').textContent").await, texts[0]);
    assert_eq!(page.get("document.querySelector('.own b').textContent").await, "<b>mallory</b>");

    // Enter within an input method chooses a word, and sends nothing.
    let composing = "document.getElementById('text').dispatchEvent(new KeyboardEvent('keydown', \
        {key: 'Enter', isComposing: true, cancelable: true, bubbles: true}))";
    assert_eq!(page.get(composing).await, true);
    assert_eq!(page.get("typeof window.hacked").await, "undefined");
    assert_eq!(page.get("document.querySelectorAll('script').length + document.images.length").await, 1);
    page.close().await;
}

async fn scrolling_up_keeps_the_position() {
    let driver = driver(ZONE).await;
    let (_server, server_address) = program::server(&[]).await;
    let (_client, address) = client(server_address, 0, &[]).await;
    let page = open(&driver, address).await;
    let mut grpc = support::grpc(server_address).await;
    for number in 0..200 {
        post(&mut grpc, "bob", &format!("{number} {}", "and more ".repeat(number % 40))).await;
    }
    let at_end =
        "(view => view.scrollHeight - view.clientHeight - view.scrollTop < 2)(document.getElementById('view'))";
    page.wait("document.querySelectorAll('article').length === 200").await;
    page.wait(at_end).await;
    // Scroll up with the keyboard.
    page.run(
        "const view = document.getElementById('view'); view.focus(); view.onscrollend = () => window.stands = true",
        json!([]),
    )
    .await;
    for _ in 0..3 {
        page.run("window.stands = false", json!([])).await;
        page.keys("\u{e00e}").await;
        page.wait("stands").await;
    }
    assert_eq!(page.get(at_end).await, false);
    let place = "(() => { const view = document.getElementById('view').getBoundingClientRect(); \
        const seen = [...document.querySelectorAll('article')].find(node => node.getBoundingClientRect().top > view.top); \
        return [seen.innerText, Math.round(seen.getBoundingClientRect().top)]; })()";
    // On a busy machine the last of the smooth scrolling may come after its event.
    let before = support::until("a view at rest", async || {
        let before = page.get(place).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        (page.get(place).await == before).then_some(before)
    })
    .await;
    for number in 0..50 {
        post(&mut grpc, "bob", &format!("new {number} {}", "and more ".repeat(number % 40))).await;
    }
    page.wait("document.getElementById('more').textContent === '50 new messages ↓'").await;
    assert_eq!(page.get(place).await, before, "the visible messages have not moved");
    page.click("#more").await;
    page.wait(at_end).await;
    assert_eq!(page.get("document.getElementById('more').hidden").await, true);
    post(&mut grpc, "bob", "the last").await;
    page.wait(&says("the last")).await;
    page.wait(at_end).await;
    page.close().await;
}

async fn ten_thousand_messages_do_not_stutter() {
    const MANY: usize = 10_000;
    const LIVE: usize = 5_000;
    let driver = driver(ZONE).await;
    let (_server, server_address) = program::server(&[]).await;
    let (_client, address) = client(server_address, 0, &[]).await;
    let mut grpc = support::grpc(server_address).await;
    let mut post = async |number: usize| {
        post(&mut grpc, &format!("author {}", number % 7), &format!("{number} {}", "words and ".repeat(number % 20)))
            .await;
    };
    for number in 0..MANY {
        post(number).await;
    }
    let page = open(&driver, address).await;
    let last = |number: usize| {
        format!(
            "[...document.querySelectorAll('article')].at(-1)?.querySelector('.text')?.textContent.startsWith('{number} ')"
        )
    };
    page.wait(&last(MANY - 1)).await;
    assert_eq!(page.get("document.querySelectorAll('article').length").await, MANY);
    page.run(
        "window.tasks = []; \
         new PerformanceObserver(list => tasks.push(...list.getEntries().map(task => Math.round(task.duration)))) \
             .observe({type: 'longtask', buffered: true}); \
         window.frames_ = []; let last = performance.now(); \
         requestAnimationFrame(function frame(now) { frames_.push(now - last); last = now; requestAnimationFrame(frame); })",
        json!([]),
    )
    .await;
    for number in MANY..MANY + LIVE {
        post(number).await;
    }
    page.wait(&last(MANY + LIVE - 1)).await;
    let count = page.get("document.querySelectorAll('article').length").await.as_u64().unwrap();
    assert!(
        (MANY - 100..MANY + 200).contains(&usize::try_from(count).unwrap()),
        "the oldest are gone: {count} are left"
    );
    assert_eq!(page.get("document.getElementById('older').hidden").await, false);
    // A frame takes 17 ms on an idle machine. On a busy one a single task may be late, but not half
    // of all frames.
    let tasks = page.get("tasks").await;
    let frames = page.get("frames_.sort((one, other) => one - other).map(Math.round)").await;
    let frames: Vec<u64> = frames.as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    let half = frames[frames.len() / 2];
    let longest = tasks.as_array().unwrap().iter().filter_map(Value::as_u64).max().unwrap_or(0);
    assert!(half <= 50 && longest < 2_000, "frames of {half} ms, a task of {longest} ms");
    assert_eq!(http::flush(address).await.len(), MANY + LIVE, "the page took nothing");
    page.close().await;
}

async fn a_foreign_host_name_shows_nothing_of_the_chat() {
    let driver = driver(ZONE).await;
    let server_address = (Ipv4Addr::LOCALHOST, support::fixed_port()).into();
    let _server = server_at(server_address).await;
    let (_client, client) = client(server_address, 0, &[]).await;
    let page = driver.open(&format!("http://{ELSEWHERE}:{}/", client.port())).await;
    page.wait("document.body.textContent.includes('MESSENGER_HTTP_HOSTS')").await;
    // The request of a page under that name.
    for (method, path) in [("GET", "messages"), ("POST", "sendMessage"), ("POST", "getAndFlushMessages")] {
        page.run(
            &format!("fetch('{path}', {{ method: '{method}' }}).then(({{ status }}) => window.answer = status)"),
            json!([]),
        )
        .await;
        page.wait("window.answer === 403").await;
        page.run("window.answer = 0", json!([])).await;
    }
}

/// Makes docs/page.png and further pictures: `cargo test --test it -- --ignored pictures`.
async fn pictures() {
    let driver = driver(ZONE).await;
    let (mut server, server_address) = program::server(&[]).await;
    let (_client, address) = client(server_address, 0, &[]).await;
    let page = driver.open(&format!("http://{address}/")).await;
    page.screen(1000, 700, 1.0).await;
    page.keys(&format!("alice{TAB}")).await;
    let mut grpc = support::grpc(server_address).await;
    post(&mut grpc, "bob", "Hello! The new server is up. Who is in?").await;
    say(&page, "I am. One command, and the page was there.").await;
    say(&page, "What does it run on?").await;
    post(&mut grpc, "bob", "One static program. No database, no build step.").await;
    post(&mut grpc, "bob", "And my script reads the same chat with curl.").await;
    post(&mut grpc, "Ирина", "Всем привет! Меня тоже видно?").await;
    say(&page, "Clearly.").await;
    post(&mut grpc, "deploy-bot", "build 4711: all tests passed in 3 min 12 s\nhttps://ci.example.org/builds/4711")
        .await;
    page.wait(&says("Clearly.")).await;
    page.wait("document.querySelectorAll('article').length === 8").await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let others = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    page.keys("Then let us s").await;
    std::fs::write(folder.join("docs/page.png"), page.screenshot().await).unwrap();
    page.colors("dark").await;
    std::fs::write(others.join("dark.png"), page.screenshot().await).unwrap();
    page.screen(390, 760, 2.0).await;
    std::fs::write(others.join("phone-dark.png"), page.screenshot().await).unwrap();
    page.colors("light").await;
    server.signal("KILL");
    server.exit().await;
    page.keys(&format!("tart.{ENTER}")).await;
    page.wait("document.querySelector('.failed') !== null").await;
    std::fs::write(others.join("phone-away.png"), page.screenshot().await).unwrap();
    println!("docs/page.png, and more in {}", others.display());
}

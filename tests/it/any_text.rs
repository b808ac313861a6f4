//! Any UTF-8 goes through unchanged, in every direction.

use crate::support::suite::tests_of_each_backend;
use crate::support::{Backend, Message, client, post};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests_of_each_backend![texts_and_authors_arrive_unchanged]
}

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "hey",
        "Привет, как дела?",
        "👋🏽 👩‍👩‍👧‍👦 🏳️‍🌈",
        "\"quotes\" 'and' \\ and / and `",
        "line\nfeed\r\nand\ttab",
        "\u{202e}right to left\u{202c} \u{feff} \u{2028} \u{2029}",
        "</script><script>alert(1)</script>",
        "{\"author\": \"mallory\"}",
        "%s %n ${HOME} \\u0041",
        "\u{10ffff}\u{fffd}\u{0}",
    ]
    .map(str::to_owned)
    .into();
    texts.push((0..=0x1f_u8).map(char::from).chain(['\u{7f}', '\u{80}', '\u{9f}']).collect());
    texts.push("я".repeat(512 * 1024));
    texts
}

async fn texts_and_authors_arrive_unchanged(backend: Backend) {
    let server = backend.server(&[]);
    let clients = [client(server.address, &[]), client(server.address, &[])];
    for client in &clients {
        client.ready().await;
    }
    clients[0].collect(1).await;
    let mut reader = server.reader().await;
    let mut grpc = server.grpc().await;
    for text in texts() {
        // A megabyte fits a text, but is no author.
        let author = if text.len() > 1000 { "алиса" } else { &text };
        for over_http in [true, false] {
            let time =
                if over_http { clients[0].send(author, &text).await } else { post(&mut grpc, author, &text).await };
            let expected = Message { author: author.to_owned(), text: text.clone(), time };
            assert_eq!(reader.next().await, expected);
            for client in &clients {
                assert_eq!(client.collect(1).await, std::slice::from_ref(&expected));
            }
        }
    }
}

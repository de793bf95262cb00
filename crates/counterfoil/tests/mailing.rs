//! Mails that go to a real mail server: what arrives, what does not, and what is said of it.
#![cfg(feature = "smtp")]

#[path = "mail/server.rs"]
mod server;

use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use counterfoil::mail::{Postman, SmtpLogin, SmtpSecurity, SmtpSettings, SmtpTransport, Templates};
use counterfoil::{Languages, Letter, LetterUrl, MailId, MailKind, Mailer, ManualClock, NotSent, Timestamp};
use server::{Certified, MailServer};

const LINK: &str = "https://auth.example.org/password/reset/s3cr3t";

fn plain(port: u16) -> SmtpSettings {
    SmtpSettings {
        host: "127.0.0.1".to_owned(),
        port: Some(port),
        security: SmtpSecurity::NoneOnThisMachine,
        login: None,
        ca_pem: None,
        timeout: Duration::from_secs(20),
    }
}

fn over_tls(port: u16, security: SmtpSecurity, certified: &Certified) -> SmtpSettings {
    let ca_pem = Some(certified.ca_pem.clone().into_bytes());
    SmtpSettings { host: "localhost".to_owned(), security, ca_pem, ..plain(port) }
}

fn login(username: &str, password: &str) -> Option<SmtpLogin> {
    Some(SmtpLogin { username: username.to_owned(), password: password.to_owned().into() })
}

fn postman(settings: SmtpSettings) -> Postman {
    postman_from("Example <no-reply@example.org>", settings)
}

fn postman_from(from: &str, settings: SmtpSettings) -> Postman {
    let transport = Arc::new(SmtpTransport::new(settings).expect("a transport"));
    let clock = ManualClock::at(Timestamp::from_millis(1_795_260_600_000));
    let from = from.parse().expect("a mailbox");
    Postman::new(Templates::embedded().expect("templates"), from, transport).clock(Arc::new(clock))
}

fn letter(to: &str) -> Letter {
    letter_for(to, "ada", "en")
}

fn letter_for(to: &str, username: &str, languages: &str) -> Letter {
    let at = Timestamp::from_millis(1_795_260_000_000);
    Letter {
        id: MailId::from_bytes([7; 16]),
        kind: MailKind::ResetPassword,
        to: to.parse().expect("an address"),
        username: Some(username.parse().expect("a user name")),
        languages: Languages::of(None, Some(languages)),
        url: Some(LetterUrl::new(LINK.to_owned())),
        site: "Example".to_owned(),
        at,
        expires_at: at.plus_millis(3_600_000),
    }
}

/// Whether it is to be tried again, and what is said of it.
#[derive(Debug, PartialEq)]
enum Failed {
    Later(String),
    Never(String),
}

async fn fail(postman: &Postman, to: &str) -> Failed {
    let error = postman.send(letter(to)).await.expect_err("not sent");
    let said = error.source().expect("a reason");
    assert!(said.source().is_none(), "what is said is all in one line");
    let printed = format!("{error:?} {error} {said:?} {said}");
    assert!(!printed.contains("s3cr3t") && !printed.contains('\n'), "{printed}");
    match &error {
        NotSent::Later(_) => Failed::Later(said.to_string()),
        NotSent::Never(_) => Failed::Never(said.to_string()),
    }
}

#[tokio::test]
async fn a_mail_arrives_over_starttls_from_whom_it_says_to_whom_it_is_for() {
    let certified = Certified::for_name("localhost");
    let [option, certificate, key] = certified.option();
    let server = MailServer::start(&[&option, &certificate, &key, "--login", "counterfoil", "p ss=w\u{f6}rd"]);
    let settings = SmtpSettings {
        login: login("counterfoil", "p ss=w\u{f6}rd"),
        ..over_tls(server.port(), SmtpSecurity::StartTls, &certified)
    };
    postman(settings).send(letter_for("ada@example.org", "ada", "de")).await.expect("sent");
    let arrived = server.arrived();
    let [mail] = arrived.as_slice() else { panic!("one mail, not {}", arrived.len()) };
    assert_eq!(mail.envelope["from"], "no-reply@example.org");
    assert_eq!(mail.envelope["to"], serde_json::json!(["ada@example.org"]));
    assert_eq!(mail.envelope["tls"], true);
    assert_eq!(mail.envelope["login"], "counterfoil");
    assert_eq!(mail.envelope["name"], "example.org");
    let id = MailId::from_bytes([7; 16]);
    for line in [
        "From: \"Example\" <no-reply@example.org>",
        "To: ada@example.org",
        "Subject: =?utf-8?B?V8OkaGxlbiBTaWUgZWluIG5ldWVzIFBhc3N3b3J0IGbDvHIgRXhhbXBsZQ==?=",
        "Date: Sat, 21 Nov 2026 11:30:00 +0000",
        &format!("Message-ID: <{id}@example.org>"),
        "Auto-Submitted: auto-generated",
        "X-Auto-Response-Suppress: All",
        "Content-Language: de",
        LINK,
    ] {
        assert!(mail.content.lines().any(|found| found == line), "{line}\n{}", mail.content);
    }
    assert!(!mail.content.contains("\nList-"));
}

#[tokio::test]
async fn a_mail_arrives_over_tls_from_the_start() {
    let certified = Certified::for_name("localhost");
    let [option, certificate, key] = certified.option();
    let server = MailServer::start(&[&option, &certificate, &key, "--tls-from-the-start"]);
    postman(over_tls(server.port(), SmtpSecurity::Tls, &certified))
        .send(letter("ada@example.org"))
        .await
        .expect("sent");
    assert_eq!(server.arrived()[0].envelope["tls"], true);
}

#[tokio::test]
async fn mails_that_come_soon_after_each_other_share_a_connection_and_many_at_once_do_not() {
    let server = MailServer::start::<&str>(&[]);
    let postman = postman(plain(server.port()));
    postman.send(letter("one@example.org")).await.expect("sent");
    postman.send(letter("two@example.org")).await.expect("sent");
    fail(&postman, "never-@example.org").await;
    postman.send(letter("three@example.org")).await.expect("sent, on another one");
    let (four, five) = tokio::join!(postman.send(letter("four@example.org")), postman.send(letter("five@example.org")));
    four.and(five).expect("sent");
    let peers: Vec<u64> = server.arrived().iter().map(|mail| mail.envelope["peer"].as_u64().expect("a port")).collect();
    assert_eq!(peers.len(), 5);
    assert!(peers[0] == peers[1] && peers[1] != peers[2] && peers[3] != peers[4], "{peers:?}");
}

#[tokio::test]
async fn f35_a_mail_server_that_is_down_is_asked_again_later() {
    // Nobody listens where nobody listens any more.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let Failed::Later(said) = fail(&postman(plain(port)), "ada@example.org").await else { panic!("lost") };
    assert!(said.starts_with(&format!("the mail server 127.0.0.1:{port} is not to be reached: ")), "{said}");
    assert!(said.contains("refused"), "{said}");
}

#[tokio::test]
async fn f35_a_mail_server_that_does_not_answer_is_given_up_in_time() {
    let silent = MailServer::start(&["--silent"]);
    let slow = MailServer::start::<&str>(&[]);
    for (port, to) in [(silent.port(), "ada@example.org"), (slow.port(), "slow-@example.org")] {
        let settings = SmtpSettings { timeout: Duration::from_millis(700), ..plain(port) };
        let failed = fail(&postman(settings), to).await;
        let said = format!("the mail server 127.0.0.1:{port} has not taken the mail within 0.7 s");
        assert_eq!(failed, Failed::Later(said));
    }
}

#[tokio::test]
async fn f35_what_a_mail_server_refuses_for_now_comes_again_and_what_it_refuses_for_good_does_not() {
    let server = MailServer::start::<&str>(&[]);
    let postman = postman(plain(server.port()));
    let server_said = |what: &str| format!("the mail server 127.0.0.1:{} {what}", server.port());
    for (to, said) in [
        ("later-@example.org", "takes no mail for this address: 451 4.7.1 greylisted, try again later"),
        ("full-@example.org", "does not take this mail now: 452 4.3.1 the disk is full"),
        ("relay-@example.org", "takes no mail for this address: 554 5.7.1 relay access denied"),
    ] {
        assert_eq!(fail(&postman, to).await, Failed::Later(server_said(said)));
    }
    for (to, said) in [
        ("never-@example.org", "takes no mail for this address: 550 5.1.1 nobody of that name"),
        ("unwanted-@example.org", "does not take this mail: 554 5.6.0 not here"),
        ("echo-@example.org", "does not take this mail: 554 5.7.1 […] is on a list of bad links"),
    ] {
        assert_eq!(fail(&postman, to).await, Failed::Never(server_said(said)));
    }
    let stranger = postman_from("refused-@example.org", plain(server.port()));
    let said = "takes no mail from refused-@example.org: 550 5.7.1 you may not write as that";
    assert_eq!(fail(&stranger, "ada@example.org").await, Failed::Later(server_said(said)));
    assert!(server.arrived().is_empty());
}

#[tokio::test]
async fn f35_nothing_is_said_to_a_mail_server_that_does_not_prove_who_it_is() {
    let certified = Certified::for_name("localhost");
    let [option, certificate, key] = certified.option();
    let server = MailServer::start(&[&option, &certificate, &key]);
    let from_the_start = MailServer::start(&[&option, &certificate, &key, "--tls-from-the-start"]);
    let without = MailServer::start::<&str>(&[]);
    let other = Certified::for_name("localhost");
    let misnamed = Certified::for_name("mail.example.org");
    let [_, wrong_certificate, wrong_key] = misnamed.option();
    let of_another = MailServer::start(&[&option, &wrong_certificate, &wrong_key]);
    let strict = |port, security, certified: &Certified| SmtpSettings {
        login: login("counterfoil", "hunter2"),
        ..over_tls(port, security, certified)
    };
    for (settings, said) in [
        (strict(server.port(), SmtpSecurity::StartTls, &other), "invalid peer certificate"),
        (strict(from_the_start.port(), SmtpSecurity::Tls, &other), "invalid peer certificate"),
        (strict(of_another.port(), SmtpSecurity::StartTls, &misnamed), "not valid for"),
        (strict(without.port(), SmtpSecurity::StartTls, &certified), "offers no STARTTLS, so nothing was said to it"),
        (strict(without.port(), SmtpSecurity::Tls, &certified), "is not to be reached"),
    ] {
        let Failed::Later(found) = fail(&postman(settings), "ada@example.org").await else { panic!("lost: {said}") };
        assert!(found.contains(said), "{found}");
    }
    for server in [server, from_the_start, without, of_another] {
        assert!(server.arrived().is_empty());
    }
}

#[tokio::test]
async fn f35_an_answer_put_in_before_tls_began_makes_no_mail_look_sent() {
    let certified = Certified::for_name("localhost");
    let [option, certificate, key] = certified.option();
    let server = MailServer::start(&[&option, &certificate, &key, "--meddled-with"]);
    let postman = postman(over_tls(server.port(), SmtpSecurity::StartTls, &certified));
    let said = format!("the mail server localhost:{} answers what it was not asked", server.port());
    assert_eq!(fail(&postman, "ada@example.org").await, Failed::Later(said));
    assert!(server.arrived().is_empty());
}

#[tokio::test]
async fn f35_a_login_that_the_mail_server_refuses_loses_no_mail() {
    let server = MailServer::start(&["--login", "counterfoil", "right"]);
    for (login, said) in [
        (login("counterfoil", "wrong"), "does not take name and password: 535 5.7.8"),
        (None, "takes no mail from Example <no-reply@example.org>: 530 5.7.0 Authentication required"),
    ] {
        let failed = fail(&postman(SmtpSettings { login, ..plain(server.port()) }), "ada@example.org").await;
        let Failed::Later(found) = failed else { panic!("lost: {failed:?}") };
        assert!(found.contains(said) && !found.contains("wrong"), "{found}");
    }
    let open = MailServer::start::<&str>(&[]);
    let settings = SmtpSettings { login: login("counterfoil", "right"), ..plain(open.port()) };
    let Failed::Later(said) = fail(&postman(settings), "ada@example.org").await else { panic!("lost") };
    assert!(said.contains("does not take name and password"), "{said}");
}

#[tokio::test]
async fn a63_dots_and_line_breaks_reach_the_reader_as_they_were_and_end_nothing() {
    let templates = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(templates.path().join("en")).expect("made");
    let text = "Subject: {{ username }}\n\n.\n.. {{ username }}\n.\nQUIT\nMAIL FROM:<eve@example.org>\n.{{ url }}\n";
    std::fs::write(templates.path().join("en/reset_password.txt"), text).expect("written");
    let templates = Templates::load(templates.path(), "en").expect("templates");
    let server = MailServer::start::<&str>(&[]);
    let transport = Arc::new(SmtpTransport::new(plain(server.port())).expect("a transport"));
    let postman = Postman::new(templates, "no-reply@example.org".parse().expect("a mailbox"), transport);
    postman.send(letter_for("ada@example.org", ".", "en")).await.expect("sent");
    let arrived = server.arrived();
    let [mail] = arrived.as_slice() else { panic!("one mail, not {}", arrived.len()) };
    let (head, body) = mail.content.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, format!(".\r\n.. .\r\n.\r\nQUIT\r\nMAIL FROM:<eve@example.org>\r\n.{LINK}\r\n"));
    assert!(head.contains("Subject: .\r\n"), "{head}");
}

#[tokio::test]
async fn a63_an_address_has_one_reader_and_what_it_lets_through_is_one_recipient() {
    for bad in [
        "a@b@evil.example",
        "\"a b\"@example.org",
        "\"a\\\"@evil.example,\"@example.org",
        "a@example.org\r\nRCPT TO:<eve@evil.example>",
        "a@example.org>\r\nDATA",
        "a@example.org,eve@evil.example",
        "<a@example.org>",
        "a@[127.0.0.1]",
        "a @example.org",
        &format!("{}@{}", "a".repeat(64), "b.".repeat(200_000)),
    ] {
        bad.parse::<counterfoil::Email>().expect_err(bad);
    }
    let server = MailServer::start::<&str>(&[]);
    let postman = postman(plain(server.port()));
    let odd = ["a'b+c!#$%&*/=?^_`{|}~-@example.org", "SIZE=1@example.org", "..@example.org", "-@example.org"];
    for to in odd {
        postman.send(letter(to)).await.expect(to);
    }
    let arrived = server.arrived();
    assert_eq!(arrived.len(), odd.len());
    for (mail, to) in arrived.iter().zip(odd) {
        assert_eq!(mail.envelope["to"], serde_json::json!([to]));
        assert!(mail.content.contains(&format!("\r\nTo: {to}\r\n")), "{}", mail.content);
    }
}

#[tokio::test]
async fn a63_an_address_beyond_ascii_needs_a_server_that_takes_it() {
    let to = "ad\u{e4}@m\u{fc}ller.example";
    let server = MailServer::start::<&str>(&[]);
    postman(plain(server.port())).send(letter(to)).await.expect("sent");
    let arrived = server.arrived();
    assert_eq!(arrived[0].envelope["to"], serde_json::json!([to]));
    assert_eq!(arrived[0].envelope["options"], serde_json::json!(["SMTPUTF8"]));
    assert!(arrived[0].content.contains(&format!("\r\nTo: {to}\r\n")));
    let old = MailServer::start(&["--no-smtputf8"]);
    let said =
        format!("the mail server 127.0.0.1:{} takes no address that is not ASCII: it lacks SMTPUTF8", old.port());
    assert_eq!(fail(&postman(plain(old.port())), to).await, Failed::Never(said));
}

//! Mails of the program: into files, by a mail server, and what the command line says of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::exchange::{PATIENCE, send};
use crate::mail_server::{Certified, MailServer};
use crate::running::{Site, any_file_has, clock, within};

/// The mails in a directory, oldest first.
fn mails(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "eml"));
    paths.sort();
    paths.iter().map(|path| fs::read_to_string(path).expect("a mail")).collect()
}

#[test]
fn without_a_mail_server_mails_are_files_in_the_data_directory() {
    let site = Site::new();
    site.operate("user create ada --email ada@example.org --no-password");
    let server = site.serve("");
    let ran = site.operate("user send-confirmation ada --json");
    assert_eq!(ran.json(), json!([{ "name": "ada", "done": true }]));
    let mail = within(PATIENCE, || mails(&site.path("data/mail")).pop());
    for line in [
        "From: \"counterfoil\" <no-reply@localhost>",
        "To: ada@example.org",
        "Subject: Confirm your address for counterfoil",
    ] {
        assert!(mail.lines().any(|found| found == line), "{line}\n{mail}");
    }
    let link = mail.lines().find(|line| line.starts_with("http://")).expect("a link");
    let secret = link.rsplit('/').next().expect("a secret");
    assert!(secret.starts_with("cfl_") && secret.len() > 40, "{link}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        let mode = fs::metadata(site.path("data/mail")).expect("a directory").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    // The queue, the database and the log know nothing of it.
    assert!(!server.log().contains(secret));
    server.stop();
    fs::rename(site.path("data/mail"), site.path("mail")).expect("moved");
    assert!(!any_file_has(&site.path("data"), secret));
}

#[test]
fn a_mail_server_gets_what_the_command_line_asks_for_and_the_queue_empties() {
    let site = Site::new();
    let certified = Certified::for_name("localhost");
    let [option, certificate, key] = certified.option();
    let mail_server = MailServer::start(&[&option, &certificate, &key, "--login", "counterfoil", "s3cr3t"]);
    let ca = site.write("ca.pem", &certified.ca_pem);
    let password = site.write("password", "s3cr3t\n");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("its mode");
    let settings = |port: u16| {
        format!(
            "base_url = \"https://auth.example.org\"\nsite = \"Example\"\n[mail]\ntransport = \"smtp\"\nfrom = \"Example \
             <no-reply@example.org>\"\n[smtp]\nhost = \"localhost\"\nport = {port}\nusername = \"counterfoil\"\npassword_file = \
             {password:?}\nca_file = {ca:?}\n"
        )
    };
    let config = site.write("counterfoil.toml", &settings(mail_server.port()));
    for (language, subject) in [("en", "Subject: Test mail from Example"), ("de", "Subject: Testmail von Example")] {
        let ran = site.run(&format!("mail test ada@example.org --language {language} --config {config}"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stdout.starts_with("sent to ada@example.org, by localhost"), "{}", ran.stdout);
        let arrived = mail_server.arrived();
        let last = arrived.last().expect("a mail");
        assert!(last.content.contains(subject) && last.envelope["tls"] == json!(true), "{}", last.content);
    }
    let refused = site.run(&format!("mail test never-@example.org --json --config {config}"));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("550 5.1.1 nobody of that name"), "{}", refused.stderr);

    // A server that was told of a mail server that is away, and then of the right one.
    let away = std::net::TcpListener::bind("127.0.0.1:0").and_then(|at| at.local_addr()).expect("a port").port();
    site.write("counterfoil.toml", &settings(away));
    site.operate("user create ada --email ada@example.org --no-password");
    let server = site.serve(&format!("--config {config}"));
    site.operate(&format!("user reset-password ada --config {config}"));
    server.log_with("mails are not sent; they are tried again");
    let queue = || site.operate("mail queue --json").json();
    let waiting = within(PATIENCE, || Some(queue()).filter(|queue| queue[0]["last_error"].is_string()));
    assert_eq!(waiting[0]["mail"], "reset_password");
    assert_eq!(waiting[0]["to"], "ada@example.org");
    assert!(waiting[0]["last_error"].as_str().is_some_and(|why| why.contains("is not to be reached")), "{waiting}");
    let told = site.operate(&format!("doctor --config {config}")).stdout;
    assert!(told.contains("1 wait; what went wrong last with the next of them: the mail server localhost:"), "{told}");
    site.write("counterfoil.toml", &settings(mail_server.port()));
    server.signal(Signal::HUP);
    server.log_with("the settings were read again and are in force");
    // The next one does not wait for the first.
    site.operate(&format!("user reset-password ada --config {config}"));
    let mail = within(PATIENCE, || mail_server.arrived().into_iter().nth(2));
    assert!(mail.content.contains("https://auth.example.org/password/reset/cfl_"), "{}", mail.content);
    // The one that waits for its half minute; the other is taken out once the mail server has said that it has it.
    within(PATIENCE, || Some(()).filter(|()| queue().as_array().map(Vec::len) == Some(1)));
    let shown = site.operate(&format!("config show --config {config}"));
    assert!(!shown.stdout.contains("s3cr3t") && !server.log().contains("s3cr3t"), "{}", shown.stdout);
    server.stop();
}

#[test]
fn f35_whoever_asks_for_a_mail_hears_the_same_at_once_whatever_the_mail_server_does() {
    let away = std::net::TcpListener::bind("127.0.0.1:0").and_then(|at| at.local_addr()).expect("a port").port();
    let (silent, good) = (MailServer::start(&["--silent"]), MailServer::start::<&str>(&[]));
    let (mut answers, mut running) = (Vec::new(), Vec::new());
    for (port, owner) in [
        (away, "ada@example.org"),
        (silent.port(), "ada@example.org"),
        (good.port(), "later-ada@example.org"),
        (good.port(), "never-ada@example.org"),
        (good.port(), "slow-ada@example.org"),
        (good.port(), "ada@example.org"),
    ] {
        let site = Site::new();
        let config = site.write(
            "counterfoil.toml",
            &format!(
                "base_url = \"https://auth.example.org\"\n[mail]\ntransport = \"smtp\"\nfrom = \"x@example.org\"\n[smtp]\nhost = \
                 \"127.0.0.1\"\nport = {port}\nsecurity = \"none\"\n"
            ),
        );
        site.operate(&format!("user create ada --email {owner} --email-confirmed --no-password"));
        let server = site.serve(&format!("--config {config}"));
        // The second one while the first is being sent, to nobody.
        for email in [owner, "nobody@example.org"] {
            let begun = clock();
            let headers = [("Content-Type", "application/json")];
            let body = json!({ "email": email }).to_string();
            let answer = send(server.address, "POST", "/v1/password/forgot", &headers, &body);
            // Sending gives up after half a minute; the limit is for a busy machine.
            assert!(clock() - begun < Duration::from_secs(10), "{owner}: whoever asks waits for the mail server");
            answers.push((answer.status, answer.body));
        }
        running.push((server, site));
    }
    assert_eq!(answers[0].0, 202, "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    within(PATIENCE, || good.arrived().into_iter().next());
}

#[test]
fn several_users_are_done_past_one_that_fails_and_each_is_reported() {
    let site = Site::new();
    site.operate("user create ada --email ada@example.org --no-password");
    site.operate("user create bob --no-password");
    for command in ["send-confirmation", "reset-password", "confirm"] {
        let ran = site.run(&format!("user {command} nobody bob ada --json --data-dir data"));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let told: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(told[0]["error"], "there is no user nobody");
        assert!(told[1]["error"].as_str().is_some_and(|why| why.contains("address")), "{told}");
        assert_eq!(told[2], json!({ "name": "ada", "done": true }));
        assert!(ran.stderr.contains("2 of 3 failed"), "{}", ran.stderr);
    }
    let ada = site.operate("user show ada --json").json();
    assert_eq!(ada["email_confirmed"], true);
    let already = site.run("user send-confirmation ada --data-dir data");
    assert_eq!(already.code, Some(1), "{already:?}");
    assert_eq!(site.operate("mail queue --json").json().as_array().map(Vec::len), Some(2));
}

#[test]
fn a85_mail_that_would_not_work_stops_the_start_and_the_check_of_the_settings() {
    let site = Site::new();
    fs::create_dir_all(site.path("templates/en")).expect("made");
    site.write("templates/en/test.txt", "Subject: x\n\n{{ usrname }}\n");
    let templates = site.write("templates/.keep", "").replace(".keep", "");
    let config = site.write("counterfoil.toml", &format!("[mail]\ntemplates = {templates:?}\n"));
    for command in ["config check", "serve", "mail test ada@example.org"] {
        let ran = site.run(&format!("{command} --config {config} --data-dir data"));
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains("mail template en/test.txt: there is no variable usrname"), "{}", ran.stderr);
    }
    site.write("templates/en/test.txt", "Subject: Hello from {{ site }}\n\nIt works.\n");
    let ran = site.run(&format!("mail test ada@example.org --config {config} --data-dir data"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let [mail] = mails(&site.path("data/mail")).try_into().expect("one mail");
    assert!(mail.contains("Subject: Hello from counterfoil\r\n") && mail.ends_with("It works.\r\n"), "{mail}");
    let none = site.write("none.toml", "[mail]\ntransport = \"none\"\n");
    let ran = site.run(&format!("mail test ada@example.org --config {none} --data-dir data"));
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

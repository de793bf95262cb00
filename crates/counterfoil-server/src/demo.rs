//! `counterfoil serve --demo`: something to try, gone when the server stops.

use std::fmt::Write as _;
use std::path::Path;

use counterfoil::{
    AtCap, Authority, By, Cap, ClientOrder, Entropy, Error, Lifetime, NewAccount, Now, OsEntropy, Password, Policy,
    Renewal,
};
use tempfile::TempDir;

use crate::failure::Failure;

/// The throw-away directory. Removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Demo {
    directory: TempDir,
}

impl Demo {
    pub(crate) fn new() -> Result<Demo, Failure> {
        let directory = tempfile::Builder::new().prefix("counterfoil-demo-").tempdir();
        let directory = directory.map_err(|error| Failure::caused_by("cannot make a throw-away directory", &error))?;
        Ok(Demo { directory })
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.directory.path()
    }
}

/// Makes the user and the clients; returns the password.
pub(crate) async fn furnish(authority: &Authority, now: Now) -> Result<String, Failure> {
    let operator = By::operator();
    let life = |text: &str| text.parse::<Lifetime>().map_err(Failure::refused);
    let web =
        Policy { ttl: Some(life("30d")?), renewal: Renewal::OnUse { at_most_every: life("1m")? }, ..Policy::default() };
    let mobile = Policy {
        ttl: Some(life("90d")?),
        max_lifetime: Some(life("365d")?),
        cap: std::num::NonZeroU32::new(2).map(|limit| Cap { limit, at_cap: AtCap::EvictOldest }),
        ..Policy::default()
    };
    let cli = Policy {
        ttl: Some(life("8h")?),
        renewal: Renewal::Never,
        throttle: Some("100/h".parse().map_err(Failure::refused)?),
        ..Policy::default()
    };
    for (name, policy) in [("web", web), ("mobile", mobile), ("cli", cli)] {
        let order = ClientOrder { policy, ..ClientOrder::named(name.parse().map_err(Failure::refused)?) };
        authority.create_client(order, &operator, now).await?;
    }
    let password = random_password().map_err(Failure::from)?;
    let ada = NewAccount::named("ada".parse().map_err(Failure::refused)?);
    authority
        .create_user(ada, Some(Password::new(password.as_str()).map_err(Failure::refused)?), &operator, now)
        .await?;
    Ok(password)
}

/// Twenty letters that need no quotes in a shell: 92 bits.
fn random_password() -> Result<String, Error> {
    const LETTERS: &[u8; 25] = b"abcdefghijkmnopqrstuvwxyz";
    let mut password = String::with_capacity(20);
    let mut byte = [0];
    while password.len() < 20 {
        OsEntropy.fill(&mut byte)?;
        // 250 = 10 × 25: every letter is as likely as any other.
        if byte[0] < 250 {
            password.push(char::from(LETTERS[usize::from(byte[0] % 25)]));
        }
    }
    Ok(password)
}

/// What to paste into a shell. Needs curl, grep and cut.
pub(crate) fn lines(url: &str, password: &str) -> String {
    let mut text = String::new();
    let mut say = |line: &str| writeln!(text, "{line}").ok();
    say("");
    say("# A demonstration; everything in it is gone when the server stops. Paste these lines into another terminal.");
    say("# There is one user and there are three clients, each with rules of its own for its tokens:");
    say("#   web     30 days from the last use");
    say("#   mobile  90 days, renewed on request for at most a year, two devices: a third login ends the oldest");
    say("#   cli     8 hours and no more, 100 requests an hour");
    say("");
    say(&format!("URL={url} PASSWORD={password}"));
    say("");
    say("# Log in on three devices. Each gets a token of its own.");
    let login = |client: &str, name: &str| {
        format!("curl -sS $URL/v1/login -d username=ada -d password=$PASSWORD -d client={client} -d name={name}")
    };
    say(&format!("LAPTOP=$({} | grep -o 'cf_[0-9A-Za-z]*')", login("web", "Laptop")));
    say(&format!("TERMINAL=$({} | grep -o 'cf_[0-9A-Za-z]*')", login("cli", "Terminal")));
    say(&format!("ANSWER=$({})", login("mobile", "Phone")));
    say("PHONE=$(echo \"$ANSWER\" | grep -o 'cf_[0-9A-Za-z]*')");
    say("PHONE_ID=$(echo \"$ANSWER\" | grep -o '\"id\":\"[^\"]*\"' | head -n 1 | cut -d '\"' -f 4)");
    say("");
    say("# Each of them sees all three.");
    say("curl -sS $URL/v1/tokens -H \"Authorization: Bearer $PHONE\"; echo");
    say("");
    say("# The laptop kicks the phone out (204). The terminal stays (200); the phone is refused from now on (401).");
    say("curl -sS -w '%{http_code}\\n' -X DELETE $URL/v1/tokens/$PHONE_ID -H \"Authorization: Bearer $LAPTOP\"");
    say("curl -sS -w '\\n%{http_code}\\n' $URL/v1/me -H \"Authorization: Bearer $TERMINAL\"");
    say("curl -sS -w '\\n%{http_code}\\n' $URL/v1/me -H \"Authorization: Bearer $PHONE\"");
    text
}

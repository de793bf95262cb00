//! Servers that run already, to be replayed against in place of ours: `--url`, `--servers`.

use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

use crate::Failure;
use crate::exchange::exchange;
use crate::json::Json;
use crate::mailbox::Mailbox;

/// A server that holds one profile of one package.
#[derive(Debug)]
pub(crate) struct Server {
    /// `None`: whatever package is asked for.
    package: Option<String>,
    profile: String,
    pub(crate) host: String,
    pub(crate) base: String,
    /// A path that brings its store back to what the setup says, by POST.
    reset: Option<Place>,
    pub(crate) mailbox: Mailbox,
    /// Its store is that of one scenario at a time.
    pub(crate) turn: Mutex<()>,
}

/// Host and path of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    host: String,
    path: String,
}

/// Every server that was named.
#[derive(Debug, Default)]
pub(crate) struct Servers(Vec<Server>);

impl Servers {
    /// From `[PACKAGE:]PROFILE=URL` and `[PACKAGE:]PROFILE=DIRECTORY` of its mails.
    pub(crate) fn named(urls: &[String], mails: &[String]) -> Result<Servers, Failure> {
        let mut servers = Vec::new();
        for url in urls {
            let (package, profile, url) = named(url)?;
            let mailbox = mails.iter().map(|mail| named(mail)).find(|mail| {
                mail.as_ref().map_or(true, |(of, at, _)| (of.as_deref(), *at) == (package.as_deref(), profile))
            });
            let mailbox =
                mailbox.transpose()?.map_or_else(Mailbox::default, |(_, _, directory)| Mailbox::at(directory));
            servers.push(Server::new(package, profile, url, None, mailbox)?);
        }
        Ok(Servers(servers))
    }

    /// From a file `{package: {profile: {"url", "reset", "mail"}}}`.
    pub(crate) fn listed(file: &Path) -> Result<Servers, Failure> {
        let wrong = |what: String| format!("{}: {what}", file.display());
        let bytes = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
        let list = Json::parse(&bytes).map_err(|error| wrong(error.to_string()))?;
        let mut servers = Vec::new();
        for (package, profiles) in list.as_object().unwrap_or_default() {
            for (profile, server) in profiles.as_object().unwrap_or_default() {
                let text = |key: &str| server.get(key).and_then(Json::as_str);
                let url = text("url").ok_or_else(|| wrong(format!("{package} {profile} has no url")))?;
                let mailbox = text("mail").map_or_else(Mailbox::default, |mail| Mailbox::at(PathBuf::from(mail)));
                servers.push(Server::new(Some(package.clone()), profile, url, text("reset"), mailbox)?);
            }
        }
        Ok(Servers(servers))
    }

    pub(crate) fn and(mut self, others: Servers) -> Servers {
        self.0.extend(others.0);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn of(&self, package: &str, profile: &str) -> Option<&Server> {
        self.0
            .iter()
            .find(|server| server.profile == profile && server.package.as_deref().is_none_or(|known| known == package))
    }
}

impl Server {
    fn new(
        package: Option<String>,
        profile: &str,
        url: &str,
        reset: Option<&str>,
        mailbox: Mailbox,
    ) -> Result<Server, Failure> {
        let Place { host, path } = place(url)?;
        let reset = reset.map(place).transpose()?;
        let base = path.trim_end_matches('/').to_owned();
        Ok(Server { package, profile: profile.to_owned(), host, base, reset, mailbox, turn: Mutex::new(()) })
    }

    /// Has its store brought back to what the setup says.
    pub(crate) async fn reset(&self) -> Result<(), String> {
        let Some(Place { host, path }) = &self.reset else {
            return Ok(());
        };
        let request = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let answer = exchange(host, "POST", request.as_bytes()).await?;
        if answer.status < 400 { Ok(()) } else { Err(format!("the reset of its store answered {}", answer.status)) }
    }
}

/// `[PACKAGE:]PROFILE=VALUE`.
fn named(argument: &str) -> Result<(Option<String>, &str, &str), Failure> {
    let (name, value) = argument.split_once('=').ok_or_else(|| format!("{argument:?} is not PROFILE=VALUE"))?;
    match name.split_once(':') {
        Some((package, profile)) => Ok((Some(package.to_owned()), profile, value)),
        None => Ok((None, name, value)),
    }
}

fn place(url: &str) -> Result<Place, Failure> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let port = if host.contains(':') { "" } else { ":80" };
    Ok(Place { host: format!("{host}{port}"), path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_for_a_profile_of_one_package_or_of_any() {
        let urls = ["default=http://127.0.0.1:9000".to_owned(), "durin:prefix=http://h/base/".to_owned()];
        let servers = Servers::named(&urls, &[]).unwrap();
        assert_eq!(servers.of("knox", "default").unwrap().host, "127.0.0.1:9000");
        let prefix = servers.of("durin", "prefix").unwrap();
        assert_eq!((prefix.host.as_str(), prefix.base.as_str()), ("h:80", "/base"));
        assert!(servers.of("knox", "prefix").is_none());
        assert!(Servers::named(&["http://h".to_owned()], &[]).is_err());
        assert!(Servers::named(&["default=h:80".to_owned()], &[]).is_err());
    }
}

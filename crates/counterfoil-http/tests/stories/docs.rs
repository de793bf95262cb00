//! The page for people.

use counterfoil_http::{ProblemKind, ROUTES};

use crate::world::TestServer;

#[tokio::test]
async fn the_page_has_every_route_and_problem_and_fetches_and_runs_nothing() {
    let server = TestServer::with_ada().await;
    let answer = server.anonymous().get("/docs").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    let page = answer.text();
    for route in ROUTES.iter().filter(|route| !route.is_page()) {
        let heading = format!("<b class=\"{0}\">{0}</b> <code>{1}</code></h3>", route.method, route.path);
        assert_eq!(page.matches(&heading).count(), 1, "{heading}");
    }
    for kind in ProblemKind::ALL {
        assert!(page.contains(&format!("<tr id=\"{}\">", kind.slug())), "{}", kind.slug());
    }
    for forbidden in
        ["<script", "<link", "<img", "<iframe", "src=", " on", "style=\"", "http://", "https://", "@import", "url("]
    {
        let tags = page.split('<').filter_map(|tag| tag.split_once('>')).map(|(tag, _)| tag);
        assert!(!tags.clone().any(|tag| format!("<{tag}").contains(forbidden)), "{forbidden}");
    }
    assert!(page.contains("href=\"openapi.json\""));
}

#[tokio::test]
async fn every_link_of_the_page_leads_somewhere_and_no_two_places_have_one_name() {
    let server = TestServer::with_ada().await;
    let answer = server.anonymous().get("/docs").await;
    let page = answer.text();
    let named = |start: &'static str| page.split(start).skip(1).map(|rest| rest.split('"').next().unwrap());
    let mut ids: Vec<&str> = named(" id=\"").collect();
    for link in named("href=\"#") {
        assert!(ids.contains(&link), "{link}");
    }
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

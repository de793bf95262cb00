//! The description of the routes, made from their table.

use std::borrow::Cow;
use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{OperationBuilder, Parameter as PathParameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, HttpMethod, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required,
};

use crate::body::AboutToken;
use crate::parameter::{Form, Parameter, Place};
use crate::problem::{Document, PROBLEM_JSON, ProblemKind};
use crate::router::{Access, Gives, Route, Takes};
use crate::selection::Selection;

const FORM: &str = "application/x-www-form-urlencoded";
const TOKEN_FORM: Shape = Shape::of::<AboutToken>();

/// The name of the security scheme.
const BEARER: &str = "bearer";

/// A type on the wire, by its schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    name: fn() -> Cow<'static, str>,
    schema: fn() -> RefOr<Schema>,
    within: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Shape {
    pub(crate) const fn of<T: ToSchema>() -> Shape {
        Shape { name: T::name, schema: T::schema, within: T::schemas }
    }

    fn reference(self) -> Ref {
        Ref::from_schema_name((self.name)())
    }

    /// The schema itself and those it refers to.
    fn all(self) -> Vec<(String, RefOr<Schema>)> {
        let mut all = vec![((self.name)().into_owned(), (self.schema)())];
        (self.within)(&mut all);
        all
    }
}

/// The routes as an OpenAPI 3.1 document.
pub fn openapi() -> Value {
    of(&Selection::all())
}

/// The same of these routes alone.
pub(crate) fn of(selection: &Selection) -> Value {
    serde_json::to_value(document(selection)).unwrap_or(Value::Null)
}

/// The text of a document, whose paths are under `prefix`.
pub(crate) fn under(prefix: &str, text: &str) -> String {
    match text.strip_prefix('{') {
        Some(rest) if !prefix.is_empty() => format!("{{\"servers\":[{{\"url\":{}}}],{rest}", Value::from(prefix)),
        Some(_) | None => text.to_owned(),
    }
}

fn document(selection: &Selection) -> OpenApi {
    let info = InfoBuilder::new()
        .title("counterfoil")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Tokens: one for each device, browser, app or API key, each revocable alone."))
        .license(Some(LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build()))
        .build();
    let mut paths = Paths::new();
    let mut components = ComponentsBuilder::new().security_scheme(
        BEARER,
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("The text of a token. The scheme may also be written Token."))
                .build(),
        ),
    );
    components = components.schemas_from_iter(Shape::of::<Document<'_>>().all());
    for route in selection.routes().filter(|route| !route.is_page()) {
        paths.add_path_operation(route.path, vec![method(&route.method)], operation(route));
        let takes = match route.takes {
            Takes::Nothing => None,
            Takes::Json(shape) | Takes::JsonOrForm(shape) => Some(shape),
            Takes::TokenForm => Some(TOKEN_FORM),
            Takes::Form => None,
        };
        let gives = match route.gives {
            Gives::Ok(shape) | Gives::OkOrTable(shape) | Gives::Created(shape) => vec![shape],
            Gives::CreatedOrAccepted(made, asked) => vec![made, asked],
            Gives::Accepted | Gives::Nothing | Gives::Empty | Gives::Html | Gives::Page | Gives::AnyJson => Vec::new(),
        };
        for shape in takes.into_iter().chain(gives) {
            components = components.schemas_from_iter(shape.all());
        }
    }
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build()
}

fn operation(route: &Route) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .summary(Some(route.what))
        .operation_id(Some(operation_id(route)))
        .parameters(Some(route.parameters.iter().copied().map(parameter)));
    operation = match route.access {
        Access::Open => operation.securities(Some([SecurityRequirement::default()])),
        Access::OpenOr(ability) => operation
            .description(Some(format!(
                "Anyone. Where the body lacks what would show who asks, a token with the ability `{}` does.",
                ability.as_str()
            )))
            .securities(Some([
                SecurityRequirement::default(),
                SecurityRequirement::new(BEARER, [ability.as_str()]),
            ])),
        Access::Token => operation.security(SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, [])),
        Access::Staff(ability) => operation
            .description(Some(format!(
                "For staff and administrators. An API key of theirs needs the ability `{}`, which only an administrator \
                 grants.",
                ability.as_str()
            )))
            .security(SecurityRequirement::new(BEARER, [ability.as_str()])),
        Access::Service(ability) => operation
            .description(Some(format!(
                "For services: the token of the request needs the ability `{}`, which only an administrator grants.",
                ability.as_str()
            )))
            .security(SecurityRequirement::new(BEARER, [ability.as_str()])),
        Access::Ability(ability) => operation
            .description(Some(format!("The token needs the ability `{}`.", ability.as_str())))
            .security(SecurityRequirement::new(BEARER, [ability.as_str()])),
    };
    let body = |media: &[&str], shape: Shape| {
        let content = || ContentBuilder::new().schema(Some(shape.reference())).build();
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        media.iter().fold(body, |body, media| body.content(*media, content())).build()
    };
    operation = match route.takes {
        Takes::Nothing | Takes::Form => operation,
        Takes::Json(shape) => operation.request_body(Some(body(&["application/json"], shape))),
        Takes::JsonOrForm(shape) => operation.request_body(Some(body(&["application/json", FORM], shape))),
        Takes::TokenForm => operation.request_body(Some(body(&[FORM], TOKEN_FORM))),
    };
    let with = |description: &str, shape: Shape| {
        let content = ContentBuilder::new().schema(Some(shape.reference())).build();
        ResponseBuilder::new().description(description).content("application/json", content)
    };
    operation = match route.gives {
        Gives::Ok(shape) => operation.response("200", with("Done.", shape).build()),
        Gives::Created(shape) => {
            let location = HeaderBuilder::new().schema(Some(text_of(None))).description(Some("What was made.")).build();
            operation.response("201", with("Made.", shape).header("Location", location).build())
        }
        Gives::CreatedOrAccepted(made, asked) => {
            operation.response("201", with("Made.", made).build()).response("202", with("Asked for.", asked).build())
        }
        Gives::Accepted => operation.response("202", ResponseBuilder::new().description("Asked for.").build()),
        Gives::OkOrTable(shape) => {
            let table = ContentBuilder::new().schema(Some(text_of(None))).build();
            operation.response("200", with("Done.", shape).content("text/csv", table).build())
        }
        Gives::Empty => operation.response("200", ResponseBuilder::new().description("Done.").build()),
        Gives::Html | Gives::Page => {
            let page = ContentBuilder::new().schema(Some(text_of(None))).build();
            operation.response("200", ResponseBuilder::new().description("Done.").content("text/html", page).build())
        }
        Gives::Nothing => operation.response("204", ResponseBuilder::new().description("Done.").build()),
        Gives::AnyJson => {
            let content = ContentBuilder::new().schema(Some(ObjectBuilder::new().build())).build();
            let response = ResponseBuilder::new().description("Done.").content("application/json", content);
            operation.response("200", response.build())
        }
    };
    let for_service = matches!(route.access, Access::Service(_));
    problems(route).into_iter().fold(operation, |operation, (status, kinds)| {
        let names: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.slug())).collect();
        let content = ContentBuilder::new().schema(Some(Shape::of::<Document<'_>>().reference())).build();
        let media = if for_service && status == 400 { "application/json" } else { PROBLEM_JSON };
        let response = ResponseBuilder::new().description(names.join(", ")).content(media, content);
        operation.response(status.to_string(), response.build())
    })
}

/// Every problem that a route may answer with, by status.
pub(crate) fn problems(route: &Route) -> Vec<(u16, Vec<ProblemKind>)> {
    use ProblemKind::{
        BodyTimeout, BodyTooLarge, InsufficientAbility, Internal, InvalidRequest, InvalidToken, InvalidValue,
        QuotaExceeded, StaffNeeded, Timeout, TokenMissing, Unavailable, UnsupportedMediaType,
    };
    let of_access: &[ProblemKind] = match route.access {
        Access::Open => &[],
        Access::OpenOr(_) => &[InvalidRequest, InvalidToken, InsufficientAbility, QuotaExceeded],
        Access::Token => &[InvalidRequest, TokenMissing, InvalidToken, QuotaExceeded],
        Access::Ability(_) | Access::Service(_) => {
            &[InvalidRequest, TokenMissing, InvalidToken, InsufficientAbility, QuotaExceeded]
        }
        Access::Staff(_) => {
            &[InvalidRequest, TokenMissing, InvalidToken, InsufficientAbility, StaffNeeded, QuotaExceeded]
        }
    };
    let of_body: &[ProblemKind] = match route.takes {
        Takes::Nothing if !route.reads_body() => &[],
        Takes::Nothing => &[BodyTimeout, BodyTooLarge, UnsupportedMediaType],
        Takes::Json(_) | Takes::JsonOrForm(_) | Takes::Form | Takes::TokenForm => {
            &[InvalidRequest, InvalidValue, BodyTimeout, BodyTooLarge, UnsupportedMediaType]
        }
    };
    let of_waiting: &[ProblemKind] = if route.can_wait() { &[InvalidValue] } else { &[] };
    let of_all = &[Internal, Unavailable, Timeout];
    let mut kinds: Vec<ProblemKind> = Vec::new();
    for kind in [of_access, of_body, of_waiting, route.problems, of_all].concat() {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let statuses: BTreeSet<u16> = kinds.iter().map(|kind| kind.status().as_u16()).collect();
    let of_status = |status| kinds.iter().copied().filter(|kind| kind.status().as_u16() == status).collect();
    statuses.into_iter().map(|status| (status, of_status(status))).collect()
}

/// `postV1LogoutAll`: unique because method and path are.
pub(crate) fn operation_id(route: &Route) -> String {
    let mut id = route.method.as_str().to_ascii_lowercase();
    for word in route.path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let (first, rest) = word.split_at(1);
        id.push_str(&first.to_ascii_uppercase());
        id.push_str(rest);
    }
    id
}

fn parameter(parameter: &Parameter) -> PathParameter {
    let place = match parameter.place {
        Place::Path => ParameterIn::Path,
        Place::Needed | Place::Optional => ParameterIn::Query,
    };
    let required = match parameter.place {
        Place::Path | Place::Needed => Required::True,
        Place::Optional => Required::False,
    };
    let schema = match parameter.form {
        Form::Text => text_of(None),
        Form::Uuid => text_of(Some("uuid")),
        Form::Instant => text_of(Some("date-time")),
        Form::Address => text_of(Some("ip")),
        Form::Flag => ObjectBuilder::new().schema_type(Type::Boolean).build(),
        Form::Word(words) => {
            ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied())).build()
        }
        Form::Count(most) => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(most))
            .default(Some(json!(50)))
            .build(),
    };
    let built = ParameterBuilder::new().name(parameter.name).parameter_in(place).required(required);
    built.schema(Some(Schema::Object(schema))).description(Some(parameter.what)).build()
}

fn text_of(format: Option<&str>) -> utoipa::openapi::schema::Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(format.map(|name| SchemaFormat::Custom(name.to_owned())))
        .build()
}

fn method(method: &Method) -> HttpMethod {
    match method.as_str() {
        "POST" => HttpMethod::Post,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        // The table holds no other; a test compares it with this document.
        _ => HttpMethod::Get,
    }
}

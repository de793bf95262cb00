//! Clients and their rules, as staff see and administrators change them.

use axum::Json;
use axum::http::StatusCode;
use counterfoil_core::authority::{ClientOrder, Ending};
use counterfoil_core::throttle::Rate;
use counterfoil_core::token::Metadata;
use counterfoil_core::{
    Cap, Client, ClientId, ClientName, Lifetime, Policy, Prefix, Refusal, Reissue, Renewal, Timestamp,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};

use super::{Made, WhichClient, made};
use crate::body::{self, NoBody, parsed, said};
use crate::caller::Staff;
use crate::nested::NestedUnder;
use crate::problem::Problem;

/// One client.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Client)]
pub(crate) struct ClientRecord {
    /// Its name in paths.
    #[schema(value_type = String, format = "uuid")]
    id: ClientId,
    /// What people call it, and what a login names.
    #[schema(value_type = String)]
    name: ClientName,
    /// The rules of its tokens; all of them.
    #[schema(value_type = PolicyBody)]
    policy: Policy,
    /// Whether anyone may log in on it.
    allow_login: bool,
    /// The host's own facts about it.
    #[schema(value_type = Object)]
    metadata: Metadata,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<&Client> for ClientRecord {
    fn from(client: &Client) -> ClientRecord {
        ClientRecord {
            id: client.id,
            name: client.name.clone(),
            policy: client.policy.clone(),
            allow_login: client.allow_login,
            metadata: client.metadata.clone(),
            created_at: client.created_at,
        }
    }
}

/// Every client.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Clients {
    /// The clients, by name.
    items: Vec<ClientRecord>,
}

pub(crate) async fn list(staff: Staff) -> Result<Json<Clients>, Problem> {
    let clients = staff.authority().clients().await?;
    Ok(Json(Clients { items: clients.iter().map(|client| ClientRecord::from(&**client)).collect() }))
}

pub(crate) async fn show(staff: Staff, WhichClient(id): WhichClient) -> Result<Json<ClientRecord>, Problem> {
    let client = staff.authority().client(id).await?;
    Ok(Json(ClientRecord::from(&*client)))
}

/// The rules of a client, or those of them that are to change. What is left out stays, or has its default in a new client.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[schema(as = Policy)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicyBody {
    /// How long a token lives from issue or renewal; null: until it is revoked. 30d.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>, example = "30d")]
    ttl: Option<Option<Lifetime>>,
    /// How long after issue no renewal reaches; null: no such end, which is the default.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>, example = "90d")]
    max_lifetime: Option<Option<Lifetime>>,
    /// `never`, `on_request`, which is the default, or `{"on_use": {"at_most_every": "10m"}}`.
    #[schema(schema_with = renewal)]
    renewal: Option<Renewal>,
    /// `{"limit": 5, "at_cap": "refuse"}` or `"evict_oldest"`: how many live login tokens a user may have, and what the one
    /// beyond does; null: any number, which is the default.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Object>)]
    cap: Option<Option<Cap>>,
    /// What a second login gives: `new`, which is the default, `replace` or `same`.
    #[schema(value_type = Option<String>)]
    reissue: Option<Reissue>,
    /// How many requests a user has: `100/h`; null: any number, which is the default.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>, example = "100/h")]
    throttle: Option<Option<Rate>>,
    /// What the texts of its tokens begin with. `cf_`.
    #[schema(value_type = Option<String>)]
    prefix: Option<Prefix>,
}

/// The form of [`Renewal`]: a word, or an object of one field.
fn renewal() -> Schema {
    let words = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["never", "on_request"]));
    let every = ObjectBuilder::new()
        .property("at_most_every", ObjectBuilder::new().schema_type(Type::String))
        .required("at_most_every");
    let on_use = ObjectBuilder::new().property("on_use", every).required("on_use");
    let null = ObjectBuilder::new().schema_type(Type::Null);
    let what = "`never`, `on_request`, which is the default, or `{\"on_use\": {\"at_most_every\": \"10m\"}}`.";
    OneOfBuilder::new().item(words).item(on_use).item(null).description(Some(what)).into()
}

impl PolicyBody {
    fn applied_to(&self, policy: &Policy) -> Policy {
        let PolicyBody { ttl, max_lifetime, renewal, cap, reissue, throttle, prefix } = self.clone();
        Policy {
            ttl: ttl.unwrap_or(policy.ttl),
            max_lifetime: max_lifetime.unwrap_or(policy.max_lifetime),
            renewal: renewal.unwrap_or(policy.renewal),
            cap: cap.unwrap_or(policy.cap),
            reissue: reissue.unwrap_or(policy.reissue),
            throttle: throttle.unwrap_or(policy.throttle),
            prefix: prefix.unwrap_or_else(|| policy.prefix.clone()),
        }
    }
}

/// A client to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewClientBody {
    /// What people shall call it: 1 to 64 characters.
    name: String,
    /// Its rules.
    #[serde(default)]
    policy: PolicyBody,
    /// Whether anyone may log in on it; true if it is left out.
    allow_login: Option<bool>,
}

pub(crate) async fn create(
    staff: Staff,
    prefix: NestedUnder,
    body::Json(body): body::Json<NewClientBody>,
) -> Result<Made<ClientRecord>, Problem> {
    let order = ClientOrder {
        name: parsed("name", &body.name)?,
        policy: body.policy.applied_to(&Policy::default()),
        allow_login: body.allow_login.unwrap_or(true),
    };
    let client = staff.authority().create_client(order, &staff.by, staff.now()).await?;
    Ok(made(&prefix, "/v1/admin/clients", client.id, ClientRecord::from(&*client)))
}

/// What of a client is to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientBody {
    /// What people shall call it: 1 to 64 characters. `default` keeps its name.
    name: Option<String>,
    /// Those of its rules that change.
    #[serde(default)]
    policy: PolicyBody,
    /// Whether anyone may log in on it.
    allow_login: Option<bool>,
}

pub(crate) async fn change(
    staff: Staff,
    WhichClient(id): WhichClient,
    body::Json(body): body::Json<ClientBody>,
) -> Result<Json<ClientRecord>, Problem> {
    let name: Option<ClientName> = body.name.as_deref().map(|text| parsed("name", text)).transpose()?;
    let changed = |client: &Client| -> Result<ClientOrder, Refusal> {
        Ok(ClientOrder {
            name: name.clone().unwrap_or_else(|| client.name.clone()),
            policy: body.policy.applied_to(&client.policy),
            allow_login: body.allow_login.unwrap_or(client.allow_login),
        })
    };
    let client = staff.authority().update_client(id, changed, &staff.by, staff.now()).await?;
    Ok(Json(ClientRecord::from(&*client)))
}

pub(crate) async fn delete(staff: Staff, WhichClient(id): WhichClient, _: NoBody) -> Result<StatusCode, Problem> {
    staff.authority().delete_client(id, &staff.by, staff.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn end_tokens(staff: Staff, WhichClient(id): WhichClient, _: NoBody) -> Result<StatusCode, Problem> {
    staff.authority().end(Ending::Client(id.into()), &staff.by, staff.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

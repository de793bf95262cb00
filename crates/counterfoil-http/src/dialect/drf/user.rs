//! A user as a serializer shows one: [`UserFields`].

use counterfoil_core::Account;
use counterfoil_core::account::Role;

use super::json::Value;
use super::moment::DateTimeFormat;

/// What is shown of a user, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserFields(Vec<UserField>);

/// One field of Django's own model of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UserField {
    Id,
    Username,
    Email,
    FirstName,
    LastName,
    IsActive,
    IsStaff,
    IsSuperuser,
    DateJoined,
    LastLogin,
}

impl UserField {
    const ALL: [(&'static str, UserField); 11] = [
        ("id", UserField::Id),
        ("pk", UserField::Id),
        ("username", UserField::Username),
        ("email", UserField::Email),
        ("first_name", UserField::FirstName),
        ("last_name", UserField::LastName),
        ("is_active", UserField::IsActive),
        ("is_staff", UserField::IsStaff),
        ("is_superuser", UserField::IsSuperuser),
        ("date_joined", UserField::DateJoined),
        ("last_login", UserField::LastLogin),
    ];

    fn of(self, account: &Account, times: &DateTimeFormat) -> Value {
        match self {
            // An imported user keeps the number that other tables know it by.
            UserField::Id => match account.subject.as_str().parse::<u64>() {
                Ok(number) if number.to_string() == account.subject.as_str() => Value::int(number),
                Ok(_) | Err(_) => Value::text(account.subject.as_str()),
            },
            UserField::Username => Value::text(account.username.as_str()),
            UserField::Email => Value::text(account.email.as_ref().map_or("", |email| email.as_str())),
            UserField::FirstName => Value::text(account.first_name.as_str()),
            UserField::LastName => Value::text(account.last_name.as_str()),
            UserField::IsActive => Value::Bool(account.active),
            UserField::IsStaff => Value::Bool(account.role >= Role::Staff),
            UserField::IsSuperuser => Value::Bool(account.role >= Role::Admin),
            UserField::DateJoined => times.value(Some(account.created_at)),
            UserField::LastLogin => times.value(account.last_login_at),
        }
    }

    fn name(self) -> &'static str {
        UserField::ALL.iter().find(|(_, field)| *field == self).map_or("", |(name, _)| name)
    }
}

impl UserFields {
    /// What the serializers that come with the packages show.
    pub(crate) fn username_alone() -> UserFields {
        UserFields(vec![UserField::Username])
    }

    /// These fields; `None` where one of them is not known.
    pub(crate) fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<UserFields> {
        let field = |name| UserField::ALL.iter().find(|(known, _)| *known == name).map(|(_, field)| *field);
        names.into_iter().map(field).collect::<Option<_>>().map(UserFields)
    }

    /// The names that there are.
    pub(crate) fn known() -> String {
        UserField::ALL.map(|(name, _)| name).join(", ")
    }

    pub(crate) fn of(&self, account: &Account, times: &DateTimeFormat) -> Value {
        Value::object(self.0.iter().map(|field| (field.name(), field.of(account, times))))
    }
}

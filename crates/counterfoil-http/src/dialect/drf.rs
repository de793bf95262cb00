//! What all the packages have from Django REST framework 3.18 and Django 5.2, with no package in it: what a request says, what
//! an answer looks like. Pure: bytes in, values out.

pub(crate) mod answer;
pub(crate) mod authorization;
pub(crate) mod browsable;
pub(crate) mod django;
pub(crate) mod fields;
pub(crate) mod json;
mod media_type;
pub(crate) mod metadata;
pub(crate) mod moment;
mod multipart;
pub(crate) mod negotiation;
pub(crate) mod parse;
pub(crate) mod python;
pub(crate) mod user;
pub(crate) mod view;

//! What tests of what is watched have in common.

use std::collections::BTreeMap;

use crate::model::System;
use crate::model::system::{Contact, Service, Services};

/// A shop whose API needs its database, and that has a chat.
pub(crate) fn shop() -> System {
    let service = |needs: &[&str]| Service { needs: needs.iter().map(|name| (*name).to_owned()).collect(), ..Service::default() };
    let each = [("db", service(&[])), ("api", service(&["db"])), ("web", service(&[]))];
    let hook = Contact::Webhook { url: "http://sink.example".to_owned(), headers: BTreeMap::new(), per_minute: None, fallback: None };
    System {
        name: "shop".to_owned(),
        title: "Shop".to_owned(),
        language: "en".to_owned(),
        services: Services { each: each.map(|(name, service)| (name.to_owned(), service)).into(), ..Services::default() },
        contacts: [("chat".to_owned(), hook)].into(),
        ..System::default()
    }
}

//! Tests of the whole server: the built program, real sockets, and a real Redis that each test starts for itself.

#![allow(unreachable_pub, reason = "a test program has no outside")]
#![allow(clippy::unwrap_used, reason = "a test that finds nothing to unwrap has failed")]

mod support;

mod api;
mod api_lists;
mod architecture;
mod asyncapi;
mod bad_input;
mod chat;
mod chat_person;
mod chat_script;
mod check;
mod cluster;
mod connections;
mod container;
mod contract;
mod docs;
mod door;
mod door_keys;
mod events;
mod foreign;
mod health;
mod limits;
mod load;
mod memory;
mod metrics;
mod moderation;
mod monitoring;
mod network;
mod no_history;
mod observability;
mod order;
mod outage;
mod page;
mod payload;
mod refusals;
mod resume;
mod settings;
mod shutdown;
mod slim;
mod slow;
mod socket;
mod subscriptions;
mod token;
mod tracing;

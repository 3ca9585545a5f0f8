use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, RefOr, Schema,
        schema::ArrayItems,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::protocol::{Limits, RoomId};

/// What has no control characters.
const PLAIN: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

/// What has no private characters and breaks of lines either. There is more that a username may not have, which no pattern
/// can say.
const USERNAME: &str = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029\ue000-\uf8ff]+$";

/// What the OpenAPI document says beside the calls.
#[derive(OpenApi)]
#[openapi(
    info(title = "roomcast", description = "For back ends, and for clients without a WebSocket."),
    modifiers(&Secured),
    security(("bearer" = [])),
)]
pub(super) struct Document;

struct Secured;

impl Modify for Secured {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key of the API, or a client's token."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    }
}

/// Says of each name, in paths and bodies, what it may have in it.
pub(super) fn with_names(mut document: openapi::OpenApi, limits: &Limits) -> openapi::OpenApi {
    let operations = document
        .paths
        .paths
        .values_mut()
        .flat_map(|path| [&mut path.get, &mut path.put, &mut path.post, &mut path.delete].into_iter().flatten());
    for parameter in operations.flat_map(|operation| operation.parameters.iter_mut().flatten()) {
        if let RefOr::T(parameter) = parameter
            && let Some(schema) = &mut parameter.schema
        {
            bound(&parameter.name, schema, limits);
        }
    }
    for schema in document.components.iter_mut().flat_map(|components| components.schemas.values_mut()) {
        visit(schema, limits);
    }
    document
}

/// Finds the names in a schema.
fn visit(schema: &mut RefOr<Schema>, limits: &Limits) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            for (name, property) in &mut object.properties {
                bound(name, property, limits);
                visit(property, limits);
            }
        }
        RefOr::T(Schema::AllOf(all)) => all.items.iter_mut().for_each(|part| visit(part, limits)),
        RefOr::T(Schema::OneOf(one)) => one.items.iter_mut().for_each(|part| visit(part, limits)),
        _ => {}
    }
}

/// Bounds the schema of a name; other fields stay as they are.
fn bound(name: &str, schema: &mut RefOr<Schema>, limits: &Limits) {
    let pattern = match name {
        // A personal room may be longer.
        "room" => format!(
            "^(@[A-Za-z0-9._:~@-]{{0,{}}}|[A-Za-z0-9._:~-][A-Za-z0-9._:~@-]{{0,{}}})$",
            RoomId::LONGEST - 1,
            limits.room.saturating_sub(1)
        ),
        "user" | "username" => USERNAME.to_owned(),
        "event" | "id" => PLAIN.to_owned(),
        _ => return,
    };
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.pattern = Some(pattern);
            if name.starts_with("user") {
                (object.min_length, object.max_length) = (Some(1), Some(limits.username));
            }
        }
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                bound(name, items, limits);
            }
        }
        _ => {}
    }
}

//! What a route of the native dialect takes and answers, in the words of OpenAPI.
//!
//! Each route of that dialect is given one beside its handler; what all routes have in common (who may ask,
//! what may be wrong with any request) follows from the route's scope and is added in [`crate::openapi`]. A
//! parameter of the query that no description names is refused before the handler is reached, so what is not
//! described does not work.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{
        Content, Header, ObjectBuilder, Ref, RefOr, Required, Response, Schema, Type,
        header::HeaderBuilder,
        path::{Parameter, ParameterBuilder, ParameterIn},
        request_body::{RequestBody, RequestBodyBuilder},
        schema::{AnyOfBuilder, ArrayBuilder, SchemaType},
    },
};

use crate::answer::ErrorBody;

/// Media types of files of models; a browser can run none of them.
const FILE_TYPES: [&str; 3] = [
    "application/octet-stream",
    "application/json",
    "text/plain; charset=utf-8",
];

/// Text without control characters: what a path or query can hold.
pub(crate) const TEXT: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

/// 64 hex digits in either case.
pub(crate) const HEX_64: &str = "^[0-9a-fA-F]{64}$";

/// A schema and those that it refers to.
#[derive(Clone)]
pub struct Named {
    reference: RefOr<Schema>,
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// The schema of a type, by its name.
pub fn schema<T: ToSchema>() -> Named {
    let name = T::name().into_owned();
    let mut schemas = vec![(name.clone(), T::schema())];
    T::schemas(&mut schemas);
    Named {
        reference: Ref::from_schema_name(name).into(),
        schemas,
    }
}

/// What a route takes and answers.
#[derive(Clone, Default)]
pub struct Description {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<RequestBody>,
    pub(crate) answers: BTreeMap<u16, Response>,
    pub(crate) schemas: Vec<(String, RefOr<Schema>)>,
}

impl std::fmt::Debug for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queries: Vec<&str> = self.queries().collect();
        let statuses: Vec<u16> = self.answers.keys().copied().collect();
        write!(f, "Description({queries:?} -> {statuses:?})")
    }
}

impl Description {
    /// An answer of JSON that is never cached.
    pub fn json<T: ToSchema>(about: &str) -> Self {
        Self::default().answers::<T>(StatusCode::OK, about)
    }

    /// An answer of text.
    pub fn text(content_type: &str, about: &str) -> Self {
        let mut this = Self::default();
        let mut response = Response::new(about);
        let text = Content::new(Some(text(Type::String)));
        response
            .content
            .insert(content_type.to_owned(), text.into());
        this.answers.insert(200, response);
        this
    }

    /// A list of any length, `{"version","tree",KEY:[rows]}`, of rows of one of these kinds.
    pub fn rows(key: &str, kinds: &[Named], about: &str) -> Self {
        let mut this = Self::default();
        let references = kinds.iter().map(|kind| kind.reference.clone());
        for kind in kinds {
            this.schemas.extend(kind.schemas.iter().cloned());
        }
        let list = ObjectBuilder::new()
            .property("version", pattern(HEX_64))
            .property("tree", pattern(HEX_64))
            .property(key, ArrayBuilder::new().items(any_of(references)))
            .required("version")
            .required("tree")
            .required(key);
        this.put(200, about, "application/json", list.into());
        this.cached()
    }

    /// Bytes, whole or by ranges; `file` where their type is that of a file's name.
    pub fn bytes(file: bool, about: &str) -> Self {
        let types = if file {
            &FILE_TYPES[..]
        } else {
            &FILE_TYPES[..1]
        };
        let content = |more: Option<&str>| {
            let types = types.iter().copied().chain(more);
            let nothing = || Content::new(None::<RefOr<Schema>>).into();
            types.map(|name| (name.to_owned(), nothing())).collect()
        };
        let mut this = Self::default();
        let mut whole = Response::new(about);
        whole.content = content(None);
        let mut ranges = Response::new("The ranges asked for: one as it is, several in parts.");
        ranges.content = content(Some("multipart/byteranges"));
        this.answers.insert(200, whole);
        this.answers.insert(206, ranges);
        let range = "Ranges of bytes: `bytes=0-99`. One that breaks the grammar is ignored.";
        this.cached()
            .asks("Range", range)
            .asks("If-Range", "Send ranges if the ETag is still this one.")
            .header(200, "Accept-Ranges", "`bytes`.")
            .header(
                206,
                "Content-Range",
                "Which bytes of how many, of one range.",
            )
            .problem(
                416,
                "No range lies in these bytes, or there are more than 64.",
            )
            .header(416, "Content-Range", "`bytes */LENGTH`.")
    }

    /// An `ETag`, and the conditions that go with it.
    fn cached(self) -> Self {
        let mut this = self
            .asks("If-None-Match", "Answer 304 if the ETag is among these.")
            .asks("If-Match", "Answer 412 unless the ETag is among these.");
        let unchanged = Response::new("What `If-None-Match` names is what there is.");
        this.answers.insert(304, unchanged);
        for status in [200, 206, 304] {
            this = this.header(status, "ETag", "A strong tag, made of hashes of the bytes.");
        }
        this.problem(412, "`If-Match` names other bytes.")
    }

    /// Says that what is answered is part of a version, which a header names.
    pub fn of_version(mut self) -> Self {
        for status in [200, 206, 304] {
            self = self
                .header(
                    status,
                    "Lode-Version",
                    "Id of the version that `rev` named.",
                )
                .header(
                    status,
                    "Lode-Fork",
                    "The versions that signers disagree about, if they do.",
                )
                .header(
                    status,
                    "Lode-Variant",
                    "Id of the variant that `rev` named.",
                )
                .header(status, "Lode-Recipe", "What makes that variant.");
        }
        self
    }

    /// One more answer of JSON.
    pub fn answers<T: ToSchema>(mut self, status: StatusCode, about: &str) -> Self {
        let named = schema::<T>();
        self.schemas.extend(named.schemas);
        let content_type = "application/json";
        self.put(status.as_u16(), about, content_type, named.reference);
        self
    }

    /// An answer of lines of JSON, each of one of these kinds.
    pub fn lines(kinds: &[Named], statuses: &[(u16, &str)]) -> Self {
        let mut this = Self::default();
        for kind in kinds {
            this.schemas.extend(kind.schemas.iter().cloned());
        }
        for (status, about) in statuses {
            let line = any_of(kinds.iter().map(|kind| kind.reference.clone()));
            this.put(*status, about, "application/jsonl", line);
        }
        this
    }

    /// A failure that this route alone can answer, besides those of all routes.
    pub fn problem(mut self, status: u16, about: &str) -> Self {
        let named = schema::<ErrorBody>();
        self.schemas.extend(named.schemas);
        self.put(status, about, "application/json", named.reference);
        self
    }

    /// A header of an answer.
    pub fn header(mut self, status: u16, name: &str, about: &str) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            let header: Header = HeaderBuilder::new()
                .schema(Some(text(Type::String)))
                .description(Some(about))
                .build();
            answer.headers.insert(name.to_owned(), header.into());
        }
        self
    }

    /// A header of the answers that bring something.
    pub fn sends(mut self, name: &str, about: &str) -> Self {
        for status in [200, 206] {
            self = self.header(status, name, about);
        }
        self
    }

    /// A header of the request.
    pub fn asks(mut self, name: &str, about: &str) -> Self {
        let schema = text(Type::String);
        let header = parameter(ParameterIn::Header, name, about, Required::False, schema);
        self.parameters.push(header);
        self
    }

    /// A parameter of the query that may be left out, with its schema.
    pub fn query(mut self, name: &str, about: &str, schema: impl Into<RefOr<Schema>>) -> Self {
        let required = Required::False;
        let query = parameter(ParameterIn::Query, name, about, required, schema);
        self.parameters.push(query);
        self
    }

    /// The body of the request: JSON.
    pub fn takes<T: ToSchema>(mut self, about: &str) -> Self {
        let named = schema::<T>();
        self.schemas.extend(named.schemas);
        self.body(about, Required::True, named.reference)
    }

    /// As [`Self::takes`], without the `name` that the address gives. Where nothing else must be there, the body
    /// may be left out.
    pub fn takes_unnamed<T: ToSchema>(mut self, about: &str) -> Self {
        let mut named = schema::<T>();
        let mut required = Required::False;
        if let Some((name, RefOr::T(Schema::Object(body)))) = named.schemas.first_mut() {
            name.push_str("Body");
            named.reference = Ref::from_schema_name(name.as_str()).into();
            body.properties.remove("name");
            body.required.retain(|property| property != "name");
            if !body.required.is_empty() {
                required = Required::True;
            }
        }
        self.schemas.extend(named.schemas);
        self.body(about, required, named.reference)
    }

    fn body(mut self, about: &str, required: Required, schema: RefOr<Schema>) -> Self {
        let body = RequestBodyBuilder::new()
            .description(Some(about))
            .required(Some(required))
            .content("application/json", Content::new(Some(schema)));
        self.body = Some(body.build());
        self
    }

    /// The names of the query's parameters.
    pub fn queries(&self) -> impl Iterator<Item = &str> {
        let query = |parameter: &&Parameter| parameter.parameter_in == ParameterIn::Query;
        self.parameters
            .iter()
            .filter(query)
            .map(|parameter| parameter.name.as_str())
    }

    fn put(&mut self, status: u16, about: &str, content_type: &str, schema: RefOr<Schema>) {
        let mut response = Response::new(about);
        let content = Content::new(Some(schema));
        response
            .content
            .insert(content_type.to_owned(), content.into());
        self.answers.insert(status, response);
    }
}

/// One parameter.
pub(crate) fn parameter(
    place: ParameterIn,
    name: &str,
    about: &str,
    required: Required,
    schema: impl Into<RefOr<Schema>>,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

/// Text of any kind, for a schema.
fn text(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(kind))
}

/// Text that matches a regular expression.
pub fn pattern(pattern: &str) -> ObjectBuilder {
    text(Type::String).pattern(Some(pattern))
}

/// Text that one of these examples shows.
pub fn example(schema: ObjectBuilder, examples: &[&str]) -> ObjectBuilder {
    schema.examples(examples.iter().map(|text| Value::from(*text)))
}

/// A number of bytes, or of anything else.
pub fn count() -> ObjectBuilder {
    text(Type::Integer)
        .minimum(Some(u64::MIN))
        .maximum(Some(u64::MAX))
}

fn any_of(kinds: impl Iterator<Item = RefOr<Schema>>) -> RefOr<Schema> {
    let mut kinds: Vec<_> = kinds.collect();
    if kinds.len() == 1 {
        return kinds.remove(0);
    }
    let any = kinds
        .into_iter()
        .fold(AnyOfBuilder::new(), |any, kind| any.item(kind));
    any.into()
}

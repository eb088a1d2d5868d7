//! Writes the contract as stubs of Python: the modules that componentize-py generates when it makes a component, for
//! editors and type checkers. Part of the root crate's build script.
//!
//! Invariant: the names and signatures are those of componentize-py. `tests/it/plugin_types.rs` compares them.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use wit_bindgen_core::wit_parser::{
    Docs, Function, InterfaceId, Resolve, Type, TypeDefKind, TypeId, WorldId, WorldItem, WorldKey,
};

const HEAD: &str =
    "# Made of wit/ by `guillemet plugin new`, for editors and type checkers: componentize-py generates the module.\n";
const TYPES: &str = "\
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar(\"S\")
T = TypeVar(\"T\")
E = TypeVar(\"E\")

@dataclass
class Some(Generic[S]):
    value: S

@dataclass
class Ok(Generic[T]):
    value: T

@dataclass(frozen=True)
class Err(Generic[E], Exception):
    value: E

Result = Ok[T] | Err[E]
";

/// Writes the stubs into a folder.
pub fn write(resolve: &Resolve, world: WorldId, folder: &Path) -> Result<(), Box<dyn Error>> {
    let module = folder.join("wit_world");
    std::fs::create_dir_all(module.join("imports"))?;
    std::fs::create_dir_all(module.join("exports"))?;
    std::fs::write(folder.join("componentize_py_types.pyi"), format!("{HEAD}{TYPES}"))?;
    std::fs::write(module.join("__init__.pyi"), HEAD)?;
    let world = &resolve.worlds[world];
    for (items, name) in [(&world.imports, "imports"), (&world.exports, "exports")] {
        let mut package = HEAD.to_owned();
        for (key, item) in items {
            let WorldItem::Interface { id, .. } = item else { continue };
            let interface = match key {
                WorldKey::Name(name) => name.clone(),
                WorldKey::Interface(id) => resolve.interfaces[*id].name.clone().unwrap_or_default(),
            };
            let module_name = snake(&interface);
            let mut text = format!("{HEAD}{}", types(resolve, *id)?);
            if name == "imports" {
                for function in resolve.interfaces[*id].functions.values() {
                    text.push('\n');
                    text.push_str(&signature(resolve, function, "", "")?);
                }
            } else {
                writeln!(package, "from abc import abstractmethod\nfrom typing import Protocol\n")?;
                writeln!(package, "from . import {module_name} as {module_name}\n")?;
                writeln!(package, "class {}(Protocol):", camel(&interface))?;
                for function in resolve.interfaces[*id].functions.values() {
                    package.push_str("    @abstractmethod\n");
                    package.push_str(&signature(resolve, function, "    ", &format!("{module_name}."))?);
                }
            }
            std::fs::write(module.join(name).join(format!("{module_name}.pyi")), text)?;
        }
        std::fs::write(module.join(name).join("__init__.pyi"), package)?;
    }
    Ok(())
}

/// Returns the records and variants of an interface.
fn types(resolve: &Resolve, interface: InterfaceId) -> Result<String, Box<dyn Error>> {
    let mut text = "from dataclasses import dataclass\n".to_owned();
    for (name, id) in &resolve.interfaces[interface].types {
        let definition = &resolve.types[*id];
        let name = camel(name);
        match &definition.kind {
            TypeDefKind::Record(record) => {
                write!(text, "\n@dataclass\nclass {name}:\n{}", docs(&definition.docs, "    "))?;
                for field in &record.fields {
                    writeln!(text, "    {}: {}", snake(&field.name), python(resolve, &field.ty, "")?)?;
                }
            }
            TypeDefKind::Variant(variant) => {
                let mut cases = Vec::new();
                for case in &variant.cases {
                    let class = format!("{name}_{}", camel(&case.name));
                    write!(text, "\n@dataclass\nclass {class}:\n")?;
                    match &case.ty {
                        Some(ty) => writeln!(text, "    value: {}", python(resolve, ty, "")?)?,
                        None => text.push_str("    pass\n"),
                    }
                    cases.push(class);
                }
                writeln!(text, "\n{name} = {}", cases.join(" | "))?;
            }
            _ => return Err(format!("stubs.rs has no form for the type `{name}`").into()),
        }
    }
    Ok(text)
}

fn signature(resolve: &Resolve, function: &Function, indent: &str, module: &str) -> Result<String, Box<dyn Error>> {
    let mut parameters = if indent.is_empty() { Vec::new() } else { vec!["self".to_owned()] };
    for parameter in &function.params {
        parameters.push(format!("{}: {}", snake(&parameter.name), python(resolve, &parameter.ty, module)?));
    }
    // The error of a result is raised.
    let result = match function.result.as_ref().map(|ty| (ty, result_of(resolve, ty))) {
        None => "None".to_owned(),
        Some((_, Some(ok))) => python(resolve, &ok, module)?,
        Some((ty, None)) => python(resolve, ty, module)?,
    };
    let head = format!("{indent}def {}({}) -> {result}:", snake(&function.name), parameters.join(", "));
    let docs = docs(&function.docs, &format!("{indent}    "));
    Ok(if docs.is_empty() { format!("{head} ...\n") } else { format!("{head}\n{docs}") })
}

fn result_of(resolve: &Resolve, ty: &Type) -> Option<Type> {
    let Type::Id(id) = ty else { return None };
    let TypeDefKind::Result(result) = &resolve.types[*id].kind else { return None };
    result.ok
}

/// Returns a type in Python. `module` is put before the name of a type of the interface.
fn python(resolve: &Resolve, ty: &Type, module: &str) -> Result<String, Box<dyn Error>> {
    Ok(match ty {
        Type::String | Type::Char => "str".into(),
        Type::Bool => "bool".into(),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 | Type::S8 | Type::S16 | Type::S32 | Type::S64 => "int".into(),
        Type::F32 | Type::F64 => "float".into(),
        Type::Id(id) => named(resolve, *id, module)?,
        _ => return Err(format!("stubs.rs has no form for {ty:?}").into()),
    })
}

fn named(resolve: &Resolve, id: TypeId, module: &str) -> Result<String, Box<dyn Error>> {
    let definition = &resolve.types[id];
    Ok(match (&definition.kind, &definition.name) {
        (_, Some(name)) => format!("{module}{}", camel(name)),
        (TypeDefKind::List(item), None) => format!("list[{}]", python(resolve, item, module)?),
        (TypeDefKind::Option(inner), None) => format!("{} | None", python(resolve, inner, module)?),
        (kind, None) => return Err(format!("stubs.rs has no form for {kind:?}").into()),
    })
}

fn docs(docs: &Docs, indent: &str) -> String {
    let Some(text) = docs.contents.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
        return String::new();
    };
    let text = text.replace('\\', "\\\\").replace("\"\"\"", "'''");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    format!("{indent}\"\"\"{}\n{indent}\"\"\"\n", lines.join(&format!("\n{indent}")))
}

fn snake(name: &str) -> String {
    name.replace('-', "_")
}

fn camel(name: &str) -> String {
    name.split('-').map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

//! What families build plans with: named tensors, checked against the checkpoint as they are asked for.

use super::Family;
use crate::config::Config;
use crate::error::PlanError;
use crate::names::Names;
use crate::plan::{Linear, Norm, Plan, PlanOptions, Role, SetAside, Source, Storage, TensorId, TensorSpec};
use crate::quant;
use sampan_kernels::Format;
use sampan_weights::{Checkpoint, Dtype, Tensor};
use std::collections::HashSet;

/// A module of the model: outside the layers, or in one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Global,
    Layer(usize),
}

impl Place {
    /// Which layer it is.
    fn layer(self) -> Option<usize> {
        match self {
            Place::Global => None,
            Place::Layer(layer) => Some(layer),
        }
    }
}

/// Collects the tensors that a plan reads. Missing tensors are gathered, so that the error can count them.
pub(crate) struct Builder<'a> {
    pub(crate) config: &'a Config,
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) family: &'static str,
    options: PlanOptions,
    names: Names,
    tensors: Vec<TensorSpec>,
    missing: Vec<(String, Vec<usize>)>,
    unread: HashSet<String>,
    draft: Option<Draft<'a>>,
}

/// A plan for a file that is yet to be written, from a checkpoint that is there: every tensor that the plan asks for
/// is taken to be in the file, and noted with the shape that it will have there.
pub(crate) struct Draft<'a> {
    /// Whether the file will have a part of a module; asked where the plan depends on it.
    pub(crate) has: &'a dyn Fn(&Builder<'_>, Place, &str, &str) -> bool,
    /// The names in the checkpoint.
    pub(crate) names: Names,
    /// What names in the file begin with, if they are those of Hugging Face.
    pub(crate) prefix: &'static str,
    /// The type in which a module's matrices are there.
    pub(crate) stored: fn(&Config, &str) -> Format,
    /// What `rope_freqs` will hold.
    pub(crate) divisors: Option<Vec<f32>>,
    /// What was noted.
    pub(crate) notes: Notes,
}

/// What a draft says of the file.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// For each tensor of the plan, the shape of the file's tensor.
    pub(crate) shapes: Vec<Vec<usize>>,
    /// Tensors of the file that are read while planning.
    pub(crate) constants: Vec<(String, Vec<f32>)>,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        config: &'a Config,
        family: &Family,
        options: PlanOptions,
    ) -> Builder<'a> {
        Builder {
            config,
            checkpoint,
            family: family.names[0],
            options,
            names: Names::of(checkpoint, config.dialect(), family.gguf),
            tensors: Vec::new(),
            missing: Vec::new(),
            unread: HashSet::new(),
            draft: None,
        }
    }

    /// A builder that drafts a plan.
    pub(crate) fn drafting(
        checkpoint: &'a Checkpoint,
        config: &'a Config,
        family: &Family,
        options: PlanOptions,
        draft: Draft<'a>,
    ) -> Builder<'a> {
        let plain = Builder::new(checkpoint, config, family, options);
        Builder { names: plain.names.with_prefix(draft.prefix), draft: Some(draft), ..plain }
    }

    /// The finished draft: a plan, and what the builder noted.
    pub(crate) fn drafted(self, plan: Plan) -> (Plan, Notes) {
        let notes = self.draft.map(|draft| draft.notes).unwrap_or_default();
        (Plan { family: self.family, tensors: self.tensors, ..plan }, notes)
    }

    /// Whether the checkpoint that a draft is made from has this part of a module.
    pub(crate) fn original_has(&self, place: Place, module: &str, part: &str) -> bool {
        let names = self.draft.as_ref().map_or(&self.names, |draft| &draft.names);
        self.checkpoint.tensor(&spelled(names, place, module, part)).is_some()
    }

    /// Rows of a matrix of the checkpoint that a draft is made from, if it has it.
    pub(crate) fn original_rows(&self, place: Place, module: &str) -> Option<usize> {
        let names = self.draft.as_ref().map_or(&self.names, |draft| &draft.names);
        match self.checkpoint.tensor(&spelled(names, place, module, "weight"))?.shape {
            [_] => Some(1), // GGUF drops dimensions of 1
            shape => shape.first().copied(),
        }
    }

    /// Whether the checkpoint has this part of a module.
    pub(crate) fn has(&self, place: Place, module: &str, part: &str) -> bool {
        if let Some(draft) = &self.draft {
            return (draft.has)(self, place, module, part);
        }
        self.checkpoint.tensor(&self.name(place, module, part)).is_some()
    }

    /// The file's name for a part of a module; the part may be empty.
    pub(crate) fn name(&self, place: Place, module: &str, part: &str) -> String {
        spelled(&self.names, place, module, part)
    }

    /// A projection of `cols` inputs to `rows` outputs.
    pub(crate) fn linear(
        &mut self,
        place: Place,
        module: &str,
        (rows, cols): (usize, usize),
        bias: bool,
    ) -> Result<Linear, PlanError> {
        let shape = [rows, cols];
        let weight = self.tensor(place, module, "weight", &shape, &shape, Role::Matrix, Source::default())?;
        let bias = match bias {
            true => Some(self.vector(place, module, "bias", rows)?),
            false => None,
        };
        Ok(Linear { weight, bias, rows, cols })
    }

    /// Some numbers of a module.
    pub(crate) fn vector(
        &mut self,
        place: Place,
        module: &str,
        part: &str,
        len: usize,
    ) -> Result<TensorId, PlanError> {
        self.tensor(place, module, part, &[len], &[len], Role::Vector, Source::default())
    }

    /// A norm without weights; its epsilon is the configuration's `rms_norm_eps`.
    pub(crate) fn norm_eps(&self) -> Result<Norm, PlanError> {
        let eps = self.config.f32("rms_norm_eps")?.ok_or_else(|| self.config.missing("rms_norm_eps"))?;
        if eps < 0.0 {
            return Err(self.config.bad("rms_norm_eps", "a number that is not negative"));
        }
        Ok(Norm { weight: None, eps })
    }

    /// A norm over `dim` channels.
    pub(crate) fn norm(&mut self, place: Place, module: &str, dim: usize) -> Result<Norm, PlanError> {
        self.norm_from(place, module, dim, Source::default())
    }

    /// A norm whose weights come from the file as `source` says.
    pub(crate) fn norm_from(
        &mut self,
        place: Place,
        module: &str,
        dim: usize,
        source: Source,
    ) -> Result<Norm, PlanError> {
        let eps = self.norm_eps()?.eps;
        let weight = self.tensor(place, module, "weight", &[dim], &[dim], Role::Vector, source)?;
        Ok(Norm { weight: Some(weight), eps })
    }

    /// Numbers that are read now and not kept, if the checkpoint has them.
    pub(crate) fn constant(&mut self, module: &str, len: usize) -> Result<Option<Vec<f32>>, PlanError> {
        let name = self.name(Place::Global, module, "weight");
        let there = self.original_has(Place::Global, module, "weight");
        let constant = |builder: &mut Self| {
            builder.tensor(Place::Global, module, "weight", &[len], &[len], Role::Constant, Source::default())
        };
        if let Some(draft) = &mut self.draft {
            draft.notes.constants.extend(draft.divisors.clone().map(|divisors| (name, divisors)));
            let divisors = draft.divisors.clone();
            // The two plans are to number their tensors alike.
            if there && divisors.is_none() {
                constant(self)?;
            }
            return Ok(divisors);
        }
        if !there {
            return Ok(None);
        }
        let id = constant(self)?;
        match self.checkpoint.tensor(&self.tensors[id].name) {
            Some(tensor) => Ok(Some(tensor.to_f32()?)),
            None => Ok(None),
        }
    }

    /// Lets a tensor stay unread.
    pub(crate) fn leave_unread(&mut self, place: Place, module: &str, part: &str) {
        let name = self.name(place, module, part);
        self.unread.insert(name);
    }

    /// Holds a float matrix in another format than the file's.
    pub(crate) fn hold_as(&mut self, id: TensorId, format: Format) {
        self.tensors[id].format = format;
    }

    /// A tensor of the model, `shape`, that comes from a tensor of the file, which must have the shape `file`.
    /// Dimensions of 1 do not count in the comparison: GGUF drops them.
    #[allow(clippy::too_many_arguments)] // one call per tensor of a family, in the order of reading
    pub(crate) fn tensor(
        &mut self,
        place: Place,
        module: &str,
        part: &str,
        file: &[usize],
        shape: &[usize],
        role: Role,
        mut source: Source,
    ) -> Result<TensorId, PlanError> {
        let mut name = self.name(place, module, part);
        let format = if let Some(draft) = &mut self.draft {
            draft.notes.shapes.push(file.to_vec());
            let stored = (draft.stored)(self.config, module);
            self.quantised(place, module, &name, shape, role, stored)?
        } else {
            if self.checkpoint.tensor(&name).is_none()
                && self.checkpoint.tensor(&format!("{name}_blocks")).is_some()
            {
                name.push_str("_blocks");
            }
            match self.checkpoint.tensor(&name) {
                None => {
                    self.missing.push((name.clone(), file.to_vec()));
                    Format::F32
                }
                Some(tensor) => {
                    let (storage, stored) = self.storage(&tensor)?;
                    let squeezed =
                        |shape: &[usize]| shape.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
                    if squeezed(&stored) != squeezed(file) {
                        return Err(PlanError::Shape { name, found: stored, expected: file.to_vec() });
                    }
                    let format = self.held(&tensor, &storage, role, source.transposed)?;
                    source.storage = storage;
                    self.quantised(place, module, &name, shape, role, format)?
                }
            }
        };
        self.tensors.push(TensorSpec {
            name,
            shape: shape.to_vec(),
            layer: place.layer(),
            role,
            format,
            source,
        });
        Ok(self.tensors.len() - 1)
    }

    /// How a tensor is stored, and the shape of its numbers.
    fn storage(&self, tensor: &Tensor<'_>) -> Result<(Storage, Vec<usize>), PlanError> {
        let module = tensor.name.strip_suffix(".weight").unwrap_or(tensor.name);
        let mut shape = tensor.shape.to_vec();
        let width = shape.last().copied().unwrap_or(1);
        let rows = |shape: &[usize]| shape.split_last().map_or(1, |(_, rest)| rest.iter().product::<usize>());
        match tensor.dtype {
            Dtype::F8E4M3 => {
                let names = [format!("{}_scale_inv", tensor.name), format!("{module}.scale")];
                let block = self.block()?;
                let scales = [rows(&shape).div_ceil(block.0), width.div_ceil(block.1)];
                let scale = self.scale(tensor, &names, &scales)?;
                Ok((Storage::Fp8 { scale, block }, shape))
            }
            Dtype::I8 if shape.len() > 1 => {
                let scales = [rows(&shape), width / 16];
                let scale = self.scale(tensor, &[format!("{module}.scale")], &scales)?;
                if let Some(last) = shape.last_mut() {
                    *last *= 2;
                }
                Ok((Storage::Fp4 { scale }, shape))
            }
            Dtype::U8 if shape.len() > 2 && tensor.name.ends_with("_blocks") => {
                let name = format!("{}_scales", tensor.name.trim_end_matches("_blocks"));
                let blocks = shape.pop().unwrap_or(0);
                let scale = self.scale(tensor, &[name], &shape)?;
                if blocks != 16 {
                    let (found, expected) = (vec![blocks], vec![16]);
                    return Err(PlanError::Shape { name: tensor.name.to_string(), found, expected });
                }
                if let Some(last) = shape.last_mut() {
                    *last *= 32;
                }
                Ok((Storage::Mxfp4 { scale }, shape))
            }
            _ => Ok((Storage::Plain, shape)),
        }
    }

    /// Rows and columns of an FP8 block.
    fn block(&self) -> Result<(usize, usize), PlanError> {
        let key = "quantization_config.weight_block_size";
        match self.config.get(key).map(|size| (size.get(0), size.get(1))) {
            None => Ok((128, 128)),
            Some((rows, cols)) => {
                let size = |n: Option<&serde_json::Value>| {
                    n.and_then(|n| n.as_u64()).filter(|n| (1..1 << 20).contains(n)).map(|n| n as usize)
                };
                size(rows).zip(size(cols)).ok_or_else(|| self.config.bad(key, "two whole numbers above 0"))
            }
        }
    }

    /// The tensor of factors beside `tensor`, which must have `shape`.
    fn scale(&self, tensor: &Tensor<'_>, names: &[String], shape: &[usize]) -> Result<String, PlanError> {
        let found = names.iter().find_map(|name| self.checkpoint.tensor(name));
        let Some(scale) = found else {
            let name = names.first().cloned().unwrap_or_default();
            let more = format!("; {} is stored as {} and needs it", tensor.name, tensor.dtype);
            return Err(PlanError::MissingTensor { name, shape: shape.to_vec(), more });
        };
        if scale.shape != shape {
            let (found, expected) = (scale.shape.to_vec(), shape.to_vec());
            return Err(PlanError::Shape { name: scale.name.to_string(), found, expected });
        }
        let readable = match tensor.dtype {
            Dtype::F8E4M3 => {
                matches!(scale.dtype, Dtype::F8E8M0 | Dtype::Block(Format::F32 | Format::BF16 | Format::F16))
            }
            _ => matches!(scale.dtype, Dtype::F8E8M0 | Dtype::U8),
        };
        match readable {
            true => Ok(scale.name.to_string()),
            false => Err(unsupported(&scale, "F8_E8M0 F32")),
        }
    }

    /// The format in which a tensor of the model is held.
    fn held(
        &self,
        tensor: &Tensor<'_>,
        storage: &Storage,
        role: Role,
        transposed: bool,
    ) -> Result<Format, PlanError> {
        let floats = [Format::F32, Format::F16, Format::BF16];
        let wide = |exact| if self.options.exact { Format::F32 } else { exact };
        match (role, storage, tensor.dtype) {
            (Role::Matrix, Storage::Plain, Dtype::Block(format)) => {
                // Quantised rows cannot become columns; these are small matrices.
                Ok(if transposed && !floats.contains(&format) { wide(Format::F16) } else { format })
            }
            (Role::Matrix, Storage::Fp8 { .. }, _) => Ok(wide(Format::BF16)),
            (Role::Matrix, Storage::Fp4 { .. } | Storage::Mxfp4 { .. }, _) if !transposed => {
                Ok(Format::MXFP4)
            }
            (Role::Vector | Role::Constant, Storage::Plain, Dtype::Block(format))
                if floats.contains(&format) =>
            {
                Ok(Format::F32)
            }
            (Role::Ids, Storage::Plain, Dtype::I32 | Dtype::I64 | Dtype::U32) => Ok(Format::F32),
            (Role::Ids, ..) => Err(unsupported(tensor, "I32 I64")),
            (Role::Matrix, ..) => Err(unsupported(tensor, &names(&Format::ALL))),
            _ => Err(unsupported(tensor, &names(&floats))),
        }
    }

    /// The format after what the user wants quantised.
    fn quantised(
        &self,
        place: Place,
        module: &str,
        name: &str,
        shape: &[usize],
        role: Role,
        format: Format,
    ) -> Result<Format, PlanError> {
        let (Some(quant), [rows, cols]) = (self.options.quant, shape) else { return Ok(format) };
        if !quant::applies(role, format, name, self.options.requantise)? {
            return Ok(format);
        }
        let layer = match place {
            Place::Global => 0,
            Place::Layer(index) => index,
        };
        let tied = ["lm_head", "head"].iter().all(|head| !self.has(Place::Global, head, "weight"));
        let chosen = quant.format(format, module, (layer, self.config.layers()?), (*rows, *cols), tied);
        // What has fewer bits already gains nothing by more.
        Ok(if quant::wider(chosen, format) == chosen { format } else { chosen })
    }

    /// Checks that nothing is missing, left over or contradictory, and hands over the finished plan.
    pub(crate) fn finish(self, mut plan: Plan) -> Result<Plan, PlanError> {
        if let Some((name, shape)) = self.missing.first() {
            let more = match self.missing.len() - 1 {
                0 => String::new(),
                n => format!(", and {n} more"),
            };
            return Err(PlanError::MissingTensor { name: name.clone(), shape: shape.clone(), more });
        }
        let read: HashSet<&str> = self
            .tensors
            .iter()
            .flat_map(|t| [Some(t.name.as_str()), t.source.storage.scale()])
            .flatten()
            .collect();
        let mut left = Vec::new();
        for tensor in self.checkpoint.tensors() {
            let name = tensor.name;
            if read.contains(name) || self.unread.contains(name) || self.names.ignored(name) {
                continue;
            }
            match self.names.set_aside(self.checkpoint, name, plan.layers.len()) {
                Some(what) => SetAside::count(&mut plan.set_aside, what, tensor.size() as u64),
                None => left.push(name),
            }
        }
        if !left.is_empty() {
            let shown = left.iter().take(4).copied().collect::<Vec<_>>().join(", ");
            let dots = if left.len() > 4 { ", ..." } else { "" };
            return Err(PlanError::LeftOver {
                family: self.family.to_string(),
                count: left.len(),
                names: format!("{shown}{dots}"),
            });
        }
        plan.family = self.family;
        plan.tensors = self.tensors;
        Ok(plan)
    }
}

fn spelled(names: &Names, place: Place, module: &str, part: &str) -> String {
    match place {
        Place::Global => names.global(module, part),
        Place::Layer(index) => names.layer(index, module, part),
    }
}

fn names(formats: &[Format]) -> String {
    formats.iter().map(|f| f.name()).collect::<Vec<_>>().join(" ")
}

fn unsupported(tensor: &Tensor<'_>, supported: &str) -> PlanError {
    PlanError::UnsupportedFormat {
        name: tensor.name.to_string(),
        dtype: tensor.dtype.to_string(),
        supported: supported.to_string(),
    }
}

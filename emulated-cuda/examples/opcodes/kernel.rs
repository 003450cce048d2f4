//! Kernels: forms with the same sources share one, each thread has one tuple of operands.

use super::coverage::Target;
use super::forms::Form;
use super::operands::{BLOCK, total};
use super::types::Type;
use std::collections::HashMap;
use std::fmt::Write;

/// Forms of one kernel: more make compilers slow.
const MOST_FORMS: usize = 48;

/// The forms of one kernel.
#[derive(Clone, Debug)]
pub struct Batch<'f> {
    pub forms: Vec<&'f Form>,
    /// Threads, a multiple of a block.
    pub count: usize,
}

/// Batches for all forms, for at least so many tuples each.
pub fn batches<'f>(forms: &[&'f Form], count: usize) -> Vec<Batch<'f>> {
    let mut open: HashMap<&[Type], usize> = HashMap::new();
    let mut all: Vec<Batch<'f>> = Vec::new();
    for &form in forms {
        match open.get(form.sources.as_slice()) {
            Some(&at) if all[at].forms.len() < MOST_FORMS => all[at].forms.push(form),
            _ => {
                open.insert(&form.sources, all.len());
                all.push(Batch { forms: vec![form], count: total(&form.sources, count) });
            }
        }
    }
    all
}

/// A module with a kernel for each batch: `k0`, `k1` and so on, each with the addresses of operands and of results.
pub fn module(target: Target, batches: &[Batch<'_>]) -> String {
    let Target { capability, ptx } = target;
    let head = format!(".version {}.{}\n.target sm_{capability}\n.address_size 64\n", ptx / 10, ptx % 10);
    batches.iter().enumerate().fold(head, |text, (index, batch)| text + &batch.kernel(index))
}

impl<'f> Batch<'f> {
    pub fn sources(&self) -> &'f [Type] {
        self.forms.first().map_or(&[], |form| &form.sources)
    }

    /// Results for each tuple.
    pub fn cells(&self) -> usize {
        self.forms.iter().map(|form| form.destinations.len()).sum()
    }

    /// Half of the forms each.
    pub fn halves(&self) -> [Self; 2] {
        let (first, second) = self.forms.split_at(self.forms.len() / 2);
        [first, second].map(|forms| Self { forms: forms.to_vec(), count: self.count })
    }

    fn kernel(&self, index: usize) -> String {
        let mut text = format!(
            ".visible .entry k{index}(.param .b64 from, .param .b64 to)\n{{
.reg .b32 index, size, word;\n.reg .b64 in, out, at, mine;\n.shared .align 8 .b8 cells[{}];
ld.param.b64 in, [from];\nld.param.b64 out, [to];\ncvta.to.global.u64 in, in;\ncvta.to.global.u64 out, out;
mov.u32 index, %ctaid.x;\nmov.u32 size, %ntid.x;\nmov.u32 word, %tid.x;
mul.wide.u32 at, word, 8;\nmov.u64 mine, cells;\nadd.s64 mine, mine, at;
mad.lo.u32 index, index, size, word;\nmul.wide.u32 at, index, 8;\nadd.s64 in, in, at;\nadd.s64 out, out, at;\n",
            8 * BLOCK
        );
        for (slot, ty) in self.sources().iter().enumerate() {
            let offset = 8 * slot * self.count;
            let (register, bits) = (ty.register(), ty.loaded());
            _ = writeln!(text, ".reg {register} a{slot};");
            _ = if register == ".pred" {
                writeln!(text, "ld.global.b32 word, [in+{offset}];\nsetp.ne.b32 a{slot}, word, 0;")
            } else {
                writeln!(text, "ld.global.b{bits} a{slot}, [in+{offset}];")
            };
        }
        let mut cell = 0;
        for form in &self.forms {
            self.scope(&mut text, form, cell);
            cell += form.destinations.len();
        }
        text + "ret;\n}\n"
    }

    /// One form with registers of its own. Its results go to the cells from `cell` on.
    fn scope(&self, text: &mut String, form: &Form, cell: usize) {
        let address = |index: usize| format!("[out+{}]", 8 * (cell + index) * self.count);
        let last = form.destinations.len() - 1;
        let stored = if form.memory { last } else { last + 1 };
        text.push_str("{\n");
        for (index, ty) in form.destinations[..stored].iter().enumerate() {
            _ = writeln!(text, ".reg {} d{index};", ty.register());
        }
        _ = writeln!(text, "{}", form.text.replace("{cell}", &address(last)));
        for (index, ty) in form.destinations[..stored].iter().enumerate() {
            let to = address(index);
            _ = if ty.register() == ".pred" {
                writeln!(text, "selp.b32 word, 1, 0, d{index};\nst.global.b32 {to}, word;")
            } else {
                writeln!(text, "st.global.b{} {to}, d{index};", ty.loaded())
            };
        }
        text.push_str("}\n");
    }
}

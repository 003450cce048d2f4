//! Classes of machine instructions.

use super::sass::Instruction;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Special,
    Float,
    Conversion,
    Integer,
    SharedMemory,
    GlobalLoadStore,
    AsyncCopy,
    Shuffle,
    Control,
    Spill,
    Other,
}

impl Class {
    pub const ALL: [Self; 11] = [
        Self::Special,
        Self::Float,
        Self::Conversion,
        Self::Integer,
        Self::SharedMemory,
        Self::GlobalLoadStore,
        Self::AsyncCopy,
        Self::Shuffle,
        Self::Control,
        Self::Spill,
        Self::Other,
    ];

    /// Heads of columns.
    pub fn name(self) -> &'static str {
        match self {
            Self::Special => "MUFU",
            Self::Float => "float",
            Self::Conversion => "convert",
            Self::Integer => "integer",
            Self::SharedMemory => "shared",
            Self::GlobalLoadStore => "global",
            Self::AsyncCopy => "cp.async",
            Self::Shuffle => "shuffle",
            Self::Control => "control",
            Self::Spill => "spill",
            Self::Other => "other",
        }
    }

    /// What is in it.
    pub fn members(self) -> &'static str {
        match self {
            Self::Special => "MUFU: ex2, rcp and their like",
            Self::Float => "FADD, FMUL, FFMA, comparisons, minima and selections of f32, and their packed forms",
            Self::Conversion => "F2F, F2FP, F2I, I2F, I2FP",
            Self::Integer => "integer arithmetic, logic, shifts, comparisons, selections, moves, uniform ones included",
            Self::SharedMemory => "LDS, STS, LDSM, STSM",
            Self::GlobalLoadStore => "LDG, STG, LD, ST, RED, ATOM",
            Self::AsyncCopy => "LDGSTS, LDGDEPBAR, DEPBAR, bulk copies",
            Self::Shuffle => "SHFL, VOTE, REDUX",
            Self::Control => "branches, convergence, barriers, exits, waits",
            Self::Spill => "LDL, STL",
            Self::Other => "LDC, S2R, NOP and what is not listed",
        }
    }

    pub fn of(instruction: &Instruction) -> Self {
        match instruction.stem() {
            "MUFU" => Self::Special,
            "FADD" | "FMUL" | "FFMA" | "FSETP" | "FSEL" | "FMNMX" | "FSET" | "FCHK" | "FADD2" | "FMUL2" | "FFMA2"
            | "HADD2" | "HMUL2" | "HFMA2" | "HSETP2" | "FADD32I" | "FMUL32I" | "FFMA32I" | "FSWZADD" | "FMNMX3"
            | "FHADD" | "FHFMA" | "UFADD" | "UFMUL" | "UFFMA" | "UFSETP" | "UFSEL" | "UFMNMX" | "DADD" | "DMUL"
            | "DFMA" | "DSETP" => match instruction.opcode.as_str() {
                // ptxas moves a constant this way, through the other pipe.
                "HFMA2.MMA" | "HFMA2" if instruction.operands.contains("-RZ, RZ,") => Self::Integer,
                _ => Self::Float,
            },
            "F2F" | "F2FP" | "F2I" | "I2F" | "I2FP" | "F2IP" | "I2IP" | "FRND" | "UF2F" | "UI2F" | "UF2I" | "UI2FP"
            | "UF2FP" => Self::Conversion,
            "LDS" | "STS" | "LDSM" | "STSM" | "ATOMS" => Self::SharedMemory,
            "LDG" | "STG" | "LD" | "ST" | "RED" | "ATOM" | "ATOMG" | "REDG" | "CCTL" => Self::GlobalLoadStore,
            "LDGSTS" | "LDGDEPBAR" | "DEPBAR" | "UBLKCP" | "UTMALDG" | "UTMASTG" | "SYNCS" | "ARRIVES" => {
                Self::AsyncCopy
            }
            "SHFL" | "VOTE" | "VOTEU" | "REDUX" | "MATCH" | "CREDUX" => Self::Shuffle,
            "BRA" | "BSSY" | "BSYNC" | "BAR" | "EXIT" | "CALL" | "RET" | "WARPSYNC" | "BREAK" | "BMOV"
            | "NANOSLEEP" | "YIELD" | "ERRBAR" | "MEMBAR" | "BPT" | "KILL" | "ACQBULK" => Self::Control,
            "LDL" | "STL" => Self::Spill,
            "LDC" | "LDCU" | "ULDC" | "S2R" | "S2UR" | "CS2R" | "CS2UR" | "NOP" | "LEPC" | "PMTRIG" | "R2UR" => {
                Self::Other
            }
            stem if INTEGER.contains(&stem.strip_prefix('U').unwrap_or(stem)) || INTEGER.contains(&stem) => {
                Self::Integer
            }
            _ => Self::Other,
        }
    }
}

/// Without the U of uniform ones.
const INTEGER: [&str; 40] = [
    "IADD3",
    "IADD",
    "IADD32I",
    "IMAD",
    "IMUL",
    "ISETP",
    "IMNMX",
    "IABS",
    "LEA",
    "LOP3",
    "LOP",
    "PLOP3",
    "SEL",
    "SHF",
    "SHL",
    "SHR",
    "MOV",
    "MOV32I",
    "PRMT",
    "POPC",
    "FLO",
    "BREV",
    "BMSK",
    "SGXT",
    "VIADD",
    "VIADDMNMX",
    "VIMNMX",
    "VIMNMX3",
    "VIADDMNMX3",
    "P2R",
    "R2P",
    "ISCADD",
    "IDP",
    "IDP4A",
    "PSETP",
    "P2UR",
    "VABSDIFF",
    "XMAD",
    "I2I",
    "UMOV",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_opcodes() {
        let class = |opcode: &str, operands: &str| {
            let (opcode, operands) = (opcode.to_string(), operands.to_string());
            Class::of(&Instruction { predicated: false, opcode, operands, line: 0 })
        };
        assert_eq!(class("MUFU.EX2", "R0, R1"), Class::Special);
        assert_eq!(class("FMNMX.NAN", "R0, R1, R2, !PT"), Class::Float);
        assert_eq!(class("HFMA2.MMA", "R8, -RZ, RZ, 1.625, 0"), Class::Integer);
        assert_eq!(class("HFMA2.BF16", "R8, R1, R2, R3"), Class::Float);
        assert_eq!(class("IMAD.MOV.U32", "R2, RZ, RZ, RZ"), Class::Integer);
        assert_eq!(class("UIADD3", "UR4, UR5, UR6, URZ"), Class::Integer);
        assert_eq!(class("F2FP.BF16.F32.PACK_AB", "R0, RZ, R0"), Class::Conversion);
        assert_eq!(class("LDGSTS.E.BYPASS.128", "[R0], desc[UR4][R2.64]"), Class::AsyncCopy);
        assert_eq!(class("BAR.SYNC.DEFER_BLOCKING", "0x0"), Class::Control);
        assert_eq!(class("LDL", "R0, [R1]"), Class::Spill);
        assert_eq!(class("ULDC.64", "UR4, c[0x0][0x208]"), Class::Other);
    }
}

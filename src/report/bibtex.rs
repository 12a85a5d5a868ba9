//! The literature that a run rests on, as BibTeX, and the keys by which its methods paragraph cites it.

use super::Run;
use super::methods;
use crate::evict::PolicySpec;

/// A paper on arXiv.
#[derive(Debug, PartialEq, Eq)]
pub struct Paper {
    /// Its arXiv id, as in [`Family::paper`](crate::evict::Family::paper).
    arxiv: &'static str,
    /// Its BibTeX key.
    key: &'static str,
    authors: &'static str,
    title: &'static str,
}

const fn paper(arxiv: &'static str, key: &'static str, authors: &'static str, title: &'static str) -> Paper {
    Paper { arxiv, key, authors, title }
}

/// The papers of policies, wrappers and rules, in the order of their ids.
static PAPERS: &[Paper] = &[
    paper(
        "2306.14048",
        "zhang2023h2o",
        r"Zhang, Zhenyu and Sheng, Ying and Zhou, Tianyi and Chen, Tianlong and Zheng, Lianmin and Cai, Ruisi and Song, Zhao and Tian, Yuandong and R{\'e}, Christopher and Barrett, Clark and Wang, Zhangyang and Chen, Beidi",
        "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models",
    ),
    paper(
        "2308.14508",
        "bai2023longbench",
        "Bai, Yushi and Lv, Xin and Zhang, Jiajie and Lyu, Hongchang and Tang, Jiankai and Huang, Zhidian and Du, Zhengxiao and Liu, Xiao and Zeng, Aohan and Hou, Lei and Dong, Yuxiao and Tang, Jie and Li, Juanzi",
        "LongBench: A Bilingual, Multitask Benchmark for Long Context Understanding",
    ),
    paper(
        "2309.17453",
        "xiao2023streamingllm",
        "Xiao, Guangxuan and Tian, Yuandong and Chen, Beidi and Han, Song and Lewis, Mike",
        "Efficient Streaming Language Models with Attention Sinks",
    ),
    paper(
        "2311.07911",
        "zhou2023ifeval",
        "Zhou, Jeffrey and Lu, Tianjian and Mishra, Swaroop and Brahma, Siddhartha and Basu, Sujoy and Luan, Yi and Zhou, Denny and Hou, Le",
        "Instruction-Following Evaluation for Large Language Models",
    ),
    paper(
        "2401.06104",
        "oren2024tova",
        "Oren, Matanel and Hassid, Michael and Yarden, Nir and Adi, Yossi and Schwartz, Roy",
        "Transformers are Multi-State RNNs",
    ),
    paper(
        "2404.06654",
        "hsieh2024ruler",
        "Hsieh, Cheng-Ping and Sun, Simeng and Kriman, Samuel and Acharya, Shantanu and Rekesh, Dima and Jia, Fei and Zhang, Yang and Ginsburg, Boris",
        "RULER: What's the Real Context Size of Your Long-Context Language Models?",
    ),
    paper(
        "2404.14469",
        "li2024snapkv",
        "Li, Yuhong and Huang, Yingbing and Yang, Bowen and Venkitesh, Bharat and Locatelli, Acyr and Ye, Hanchen and Cai, Tianle and Lewis, Patrick and Chen, Deming",
        "SnapKV: LLM Knows What You are Looking for Before Generation",
    ),
    paper(
        "2406.02069",
        "cai2024pyramidkv",
        "Cai, Zefan and Zhang, Yichi and Gao, Bofei and Liu, Yuliang and Li, Yucheng and Liu, Tianyu and Lu, Keming and Xiong, Wayne and Dong, Yue and Hu, Junjie and Xiao, Wen",
        "PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information Funneling",
    ),
    paper(
        "2406.11430",
        "devoto2024l2norm",
        "Devoto, Alessio and Zhao, Yu and Scardapane, Simone and Minervini, Pasquale",
        "A Simple and Effective L2 Norm-Based Strategy for KV Cache Compression",
    ),
    paper(
        "2407.11550",
        "feng2024adakv",
        "Feng, Yuan and Lv, Junlin and Cao, Yukun and Xie, Xike and Zhou, S. Kevin",
        "Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget Allocation for Efficient LLM Inference",
    ),
    paper(
        "2410.10819",
        "xiao2024duoattention",
        "Xiao, Guangxuan and Tang, Jiaming and Zuo, Jingwei and Guo, Junxian and Yang, Shang and Tang, Haotian and Fu, Yao and Han, Song",
        "DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads",
    ),
    paper(
        "2502.00299",
        "liu2025chunkkv",
        "Liu, Xiang and Tang, Zhenheng and Dong, Peijie and Li, Zeyu and Liu, Yue and Li, Bo and Hu, Xuming and Chu, Xiaowen",
        "ChunkKV: Semantic-Preserving KV Cache Compression for Efficient Long-Context LLM Inference",
    ),
    paper(
        "2502.03805",
        "feng2025criticalkv",
        "Feng, Yuan and Lv, Junlin and Guo, Haoyu and Cao, Yukun and Zhou, S. Kevin and Xie, Xike",
        "CriticalKV: Optimizing KV Cache Eviction from an Output Perturbation Perspective",
    ),
    paper(
        "2503.02812",
        "godey2025qfilters",
        r"Godey, Nathan and Devoto, Alessio and Zhao, Yu and Scardapane, Simone and Minervini, Pasquale and de la Clergerie, {\'E}ric and Sagot, Beno{\^i}t",
        "Q-Filters: Leveraging QK Geometry for Efficient KV Cache Compression",
    ),
    paper(
        "2504.04704",
        "liang2025lagkv",
        "Liang, Manlai and Zhang, JiaMing and Li, Xiong and Li, Jinlong",
        "LagKV: Lag-Relative Information of the KV Cache Tells Which Tokens Are Important",
    ),
    paper(
        "2504.15364",
        "park2025keydiff",
        "Park, Junyoung and Jones, Dalton and Morse, Matthew J. and Goel, Raghavv and Lee, Mingu and Lott, Chris",
        "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in Resource-Constrained Environments",
    ),
    paper(
        "2505.23416",
        "kim2025kvzip",
        "Kim, Jang-Hyun and Kim, Jinuk and Kwon, Sangwoo and Lee, Jae W. and Yun, Sangdoo and Song, Hyun Oh",
        "KVzip: Query-Agnostic KV Cache Compression with Context Reconstruction",
    ),
    paper(
        "2510.00231",
        "chen2025pitfalls",
        "Chen, Alex and Geh, Renato and Grover, Aditya and Van den Broeck, Guy and Israel, Daniel",
        "The Pitfalls of KV Cache Compression",
    ),
    paper(
        "2510.00636",
        "devoto2025expected",
        r"Devoto, Alessio and Jeblick, Maximilian and J{\'e}gou, Simon",
        "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries Distribution",
    ),
];

/// The key of a paper, `xiao2023streamingllm`, by its arXiv id.
pub fn key(arxiv: &str) -> Option<&'static str> {
    PAPERS.iter().find(|paper| paper.arxiv == arxiv).map(|paper| paper.key)
}

/// The citation of papers as Pandoc reads it: `[@xiao2023streamingllm]`; empty if there is none.
pub fn cite<'a>(papers: impl IntoIterator<Item = &'a str>) -> String {
    let keys: Vec<String> = papers.into_iter().filter_map(key).map(|key| format!("@{key}")).collect();
    if keys.is_empty() { String::new() } else { format!(" [{}]", keys.join("; ")) }
}

/// The arXiv ids of a policy and its wrappers, the outermost first.
pub fn of_policy(policy: &PolicySpec) -> Vec<&'static str> {
    let mut papers = Vec::new();
    for paper in policy.wrappers().map(|wrapper| wrapper.paper).chain([policy.family().paper]).flatten() {
        if !papers.contains(&paper) {
            papers.push(paper);
        }
    }
    papers
}

/// One entry for everything that the runs used: kvllama, llama.cpp, and the papers of their policies and rules.
pub fn entries(runs: &[Run]) -> String {
    let policies = runs.iter().flat_map(|run| run.manifest.conditions()).flat_map(|(_, one)| of_policy(&one.policy));
    let used: Vec<&str> = policies.chain(runs.iter().flat_map(methods::rule_papers)).collect();
    let papers = PAPERS.iter().filter(|paper| used.contains(&paper.arxiv)).map(entry);
    let mut llama_cpp: Vec<&str> = runs.iter().map(|run| run.manifest.build().llama_cpp.as_str()).collect();
    llama_cpp.dedup();
    let mut kvllama: Vec<&str> = runs.iter().map(|run| run.manifest.build().kvllama.as_str()).collect();
    kvllama.dedup();
    let mut commits: Vec<&str> = runs.iter().map(|run| run.manifest.build().git_commit.as_str()).collect();
    commits.dedup();
    let software = [
        format!(
            "@software{{kvllama,\n  author = {{{{The kvllama authors}}}},\n  title = {{{{kvllama}}}},\n  version = {{{}}},\n  \
             note = {{git commit {}}}\n}}\n",
            kvllama.join(", "),
            commits.join(", ")
        ),
        format!(
            "@software{{llamacpp,\n  author = {{Gerganov, Georgi and {{the llama.cpp contributors}}}},\n  title = \
             {{{{llama.cpp}}}},\n  url = {{https://github.com/ggml-org/llama.cpp}},\n  version = {{{}}}\n}}\n",
            llama_cpp.join(", ")
        ),
    ];
    software.into_iter().chain(papers).collect::<Vec<_>>().join("\n")
}

fn entry(paper: &Paper) -> String {
    let Paper { arxiv, key, authors, title } = paper;
    // An arXiv id starts with the year: 2309.17453 is of 2023.
    let year = &arxiv[..2];
    format!(
        "@misc{{{key},\n  author = {{{authors}}},\n  title = {{{{{title}}}}},\n  year = {{20{year}}},\n  eprint = {{{arxiv}}},\n  \
         archivePrefix = {{arXiv}},\n  url = {{https://arxiv.org/abs/{arxiv}}}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evict::{POLICIES, WRAPPERS};

    #[test]
    fn every_policy_with_a_paper_has_an_entry() {
        let named = POLICIES.iter().map(|family| (family.name, family.paper));
        for (name, paper) in named.chain(WRAPPERS.iter().map(|wrapper| (wrapper.name, wrapper.paper))) {
            assert!(paper.is_none_or(|paper| key(paper).is_some()), "{name}'s paper {paper:?} is missing from PAPERS");
        }
        assert!(PAPERS.is_sorted_by(|a, b| a.arxiv < b.arxiv), "one entry each, in order");
    }

    #[test]
    fn wrappers_are_cited_with_their_policy() {
        let policy: PolicySpec = "sinks+adakv+snapkv".parse().unwrap();
        assert_eq!(cite(of_policy(&policy)), " [@xiao2023streamingllm; @feng2024adakv; @li2024snapkv]");
        assert_eq!(cite(of_policy(&PolicySpec::default())), "");
    }
}

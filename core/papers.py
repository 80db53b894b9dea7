"""The papers behind the objectives, and how they are cited."""

from dataclasses import dataclass

from trigbench.core.objectives import OBJECTIVES


@dataclass(frozen=True)
class Paper:
    """One entry of a bibliography."""

    key: str
    title: str
    authors: tuple[str, ...]
    """Family name first."""
    year: int

    def bibtex(self, arxiv: str) -> str:
        """The entry of a paper on arXiv, by its number there."""
        fields = {"title": f"{{{self.title}}}", "author": " and ".join(self.authors), "year": str(self.year)}
        fields |= {"eprint": arxiv, "archivePrefix": "arXiv"}
        return "\n".join(
            [f"@article{{{self.key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"]
        )


PAPERS = {
    "2410.11081": Paper(
        "lu2024simplifying",
        "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models",
        ("Lu, Cheng", "Song, Yang"),
        2024,
    ),
    "2303.01469": Paper(
        "song2023consistency",
        "Consistency Models",
        ("Song, Yang", "Dhariwal, Prafulla", "Chen, Mark", "Sutskever, Ilya"),
        2023,
    ),
    "2310.14189": Paper(
        "song2023improved",
        "Improved Techniques for Training Consistency Models",
        ("Song, Yang", "Dhariwal, Prafulla"),
        2023,
    ),
    "2406.14548": Paper(
        "geng2024consistency",
        "Consistency Models Made Easy",
        ("Geng, Zhengyang", "Pokle, Ashwini", "Luo, William", "Lin, Justin", "Kolter, J. Zico"),
        2024,
    ),
    "2310.02279": Paper(
        "kim2023consistency",
        "Consistency Trajectory Models: Learning Probability Flow ODE Trajectory of Diffusion",
        (
            "Kim, Dongjun", "Lai, Chieh-Hsin", "Liao, Wei-Hsiang", "Murata, Naoki", "Takida, Yuhta",
            "Uesaka, Toshimitsu", "He, Yutong", "Mitsufuji, Yuki", "Ermon, Stefano",
        ),
        2023,
    ),
    "2405.18407": Paper(
        "wang2024phased",
        "Phased Consistency Models",
        (
            "Wang, Fu-Yun", "Huang, Zhaoyang", "Bergman, Alexander William", "Shen, Dazhong", "Gao, Peng",
            "Lingelbach, Michael", "Sun, Keqiang", "Bian, Weikang", "Song, Guanglu", "Liu, Yu", "Wang, Xiaogang",
            "Li, Hongsheng",
        ),
        2024,
    ),
    "2403.06807": Paper(
        "heek2024multistep",
        "Multistep Consistency Models",
        ("Heek, Jonathan", "Hoogeboom, Emiel", "Salimans, Tim"),
        2024,
    ),
    "2202.00512": Paper(
        "salimans2022progressive",
        "Progressive Distillation for Fast Sampling of Diffusion Models",
        ("Salimans, Tim", "Ho, Jonathan"),
        2022,
    ),
    "2310.04378": Paper(
        "luo2023latent",
        "Latent Consistency Models: Synthesizing High-Resolution Images with Few-Step Inference",
        ("Luo, Simian", "Tan, Yiqin", "Huang, Longbo", "Li, Jian", "Zhao, Hang"),
        2023,
    ),
    "2505.13447": Paper(
        "geng2025mean",
        "Mean Flows for One-step Generative Modeling",
        ("Geng, Zhengyang", "Deng, Mingyang", "Bai, Xingjian", "Kolter, J. Zico", "He, Kaiming"),
        2025,
    ),
    "2512.02012": Paper(
        "geng2025improved",
        "Improved Mean Flows: On the Challenges of Fastforward Generative Models",
        (
            "Geng, Zhengyang",
            "Lu, Yiyang",
            "Wu, Zongze",
            "Shechtman, Eli",
            "Kolter, J. Zico",
            "He, Kaiming",
        ),
        2025,
    ),
    "2506.14603": Paper(
        "sabour2025align",
        "Align Your Flow: Scaling Continuous-Time Flow Map Distillation",
        ("Sabour, Amirmojtaba", "Fidler, Sanja", "Kreis, Karsten"),
        2025,
    ),
    "2505.18825": Paper(
        "boffi2025build",
        "How to build a consistency model: Learning flow maps via self-distillation",
        ("Boffi, Nicholas M.", "Albergo, Michael S.", "Vanden-Eijnden, Eric"),
        2025,
    ),
    "2410.12557": Paper(
        "frans2024one",
        "One Step Diffusion via Shortcut Models",
        ("Frans, Kevin", "Hafner, Danijar", "Levine, Sergey", "Abbeel, Pieter"),
        2024,
    ),
    "2511.19797": Paper(
        "zhou2025terminal",
        "Terminal Velocity Matching",
        ("Zhou, Linqi", "Parger, Mathias", "Haque, Ayaan", "Song, Jiaming"),
        2025,
    ),
    "2510.20771": Paper(
        "zhang2025alphaflow",
        "AlphaFlow: Understanding and Improving MeanFlow Models",
        (
            "Zhang, Huijie",
            "Siarohin, Aliaksandr",
            "Menapace, Willi",
            "Vasilkovsky, Michael",
            "Tulyakov, Sergey",
            "Qu, Qing",
            "Skorokhodov, Ivan",
        ),
        2025,
    ),
    "2404.04057": Paper(
        "zhou2024score",
        "Score identity Distillation: Exponentially Fast Distillation of Pretrained Diffusion Models for One-Step "
        "Generation",
        ("Zhou, Mingyuan", "Zheng, Huangjie", "Wang, Zhendong", "Yin, Mingzhang", "Huang, Hai"),
        2024,
    ),
    "2503.07565": Paper(
        "zhou2025inductive",
        "Inductive Moment Matching",
        ("Zhou, Linqi", "Ermon, Stefano", "Song, Jiaming"),
        2025,
    ),
    "2405.14867": Paper(
        "yin2024improved",
        "Improved Distribution Matching Distillation for Fast Image Synthesis",
        (
            "Yin, Tianwei", "Gharbi, Michael", "Park, Taesung", "Zhang, Richard", "Shechtman, Eli", "Durand, Fredo",
            "Freeman, William T.",
        ),
        2024,
    ),
    "2510.08431": Paper(
        "zheng2025large",
        "Large Scale Diffusion Distillation via Score-Regularized Continuous-Time Consistency",
        (
            "Zheng, Kaiwen", "Wang, Yuji", "Ma, Qianli", "Chen, Huayu", "Zhang, Jintao", "Balaji, Yogesh",
            "Chen, Jianfei", "Liu, Ming-Yu", "Zhu, Jun", "Zhang, Qinsheng",
        ),
        2025,
    ),
}  # fmt: skip
"""By their numbers on arXiv."""


def citation(*objectives: str) -> str:
    """BibTeX of the papers that these objectives are of, each once; of all of them where none is named.

    Raises ValueError for a name that the table of objectives does not have.

    >>> print(citation("ict"))
    @article{song2023improved,
      title = {{Improved Techniques for Training Consistency Models}},
      author = {Song, Yang and Dhariwal, Prafulla},
      year = {2023},
      eprint = {2310.14189},
      archivePrefix = {arXiv},
    }
    """
    if unknown := [name for name in objectives if name not in OBJECTIVES]:
        raise ValueError(f"unknown objective {unknown[0]!r}; there are {', '.join(OBJECTIVES)}")
    looks = [OBJECTIVES[name].look for name in objectives or OBJECTIVES]
    numbers = dict.fromkeys(look.paper.removeprefix("arXiv ") for look in looks if look)
    return "\n\n".join(PAPERS[number].bibtex(number) for number in numbers)

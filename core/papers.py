"""The papers behind the objectives, for their lines of the table; one that is new may stand in its line itself."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """One entry of a bibliography."""

    number: str
    """On arXiv."""
    key: str
    title: str
    authors: tuple[str, ...]
    """Family name first."""
    year: int

    @property
    def place(self) -> str:
        """Where it stands, for pages."""
        return f"arXiv {self.number}"

    def bibtex(self) -> str:
        """Its entry."""
        fields = {"title": f"{{{self.title}}}", "author": " and ".join(self.authors), "year": str(self.year)}
        fields |= {"eprint": self.number, "archivePrefix": "arXiv"}
        return "\n".join(
            [f"@article{{{self.key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"]
        )


SCM = Paper(
    "2410.11081",
    "lu2024simplifying",
    "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models",
    ("Lu, Cheng", "Song, Yang"),
    2024,
)
CM = Paper(
    "2303.01469",
    "song2023consistency",
    "Consistency Models",
    ("Song, Yang", "Dhariwal, Prafulla", "Chen, Mark", "Sutskever, Ilya"),
    2023,
)
ICT = Paper(
    "2310.14189",
    "song2023improved",
    "Improved Techniques for Training Consistency Models",
    ("Song, Yang", "Dhariwal, Prafulla"),
    2023,
)
ECT = Paper(
    "2406.14548",
    "geng2024consistency",
    "Consistency Models Made Easy",
    ("Geng, Zhengyang", "Pokle, Ashwini", "Luo, William", "Lin, Justin", "Kolter, J. Zico"),
    2024,
)
CTM = Paper(
    "2310.02279",
    "kim2023consistency",
    "Consistency Trajectory Models: Learning Probability Flow ODE Trajectory of Diffusion",
    (
        "Kim, Dongjun",
        "Lai, Chieh-Hsin",
        "Liao, Wei-Hsiang",
        "Murata, Naoki",
        "Takida, Yuhta",
        "Uesaka, Toshimitsu",
        "He, Yutong",
        "Mitsufuji, Yuki",
        "Ermon, Stefano",
    ),
    2023,
)
PCM = Paper(
    "2405.18407",
    "wang2024phased",
    "Phased Consistency Models",
    (
        "Wang, Fu-Yun",
        "Huang, Zhaoyang",
        "Bergman, Alexander William",
        "Shen, Dazhong",
        "Gao, Peng",
        "Lingelbach, Michael",
        "Sun, Keqiang",
        "Bian, Weikang",
        "Song, Guanglu",
        "Liu, Yu",
        "Wang, Xiaogang",
        "Li, Hongsheng",
    ),
    2024,
)
MULTISTEP_CM = Paper(
    "2403.06807",
    "heek2024multistep",
    "Multistep Consistency Models",
    ("Heek, Jonathan", "Hoogeboom, Emiel", "Salimans, Tim"),
    2024,
)
PD = Paper(
    "2202.00512",
    "salimans2022progressive",
    "Progressive Distillation for Fast Sampling of Diffusion Models",
    ("Salimans, Tim", "Ho, Jonathan"),
    2022,
)
LCM = Paper(
    "2310.04378",
    "luo2023latent",
    "Latent Consistency Models: Synthesizing High-Resolution Images with Few-Step Inference",
    ("Luo, Simian", "Tan, Yiqin", "Huang, Longbo", "Li, Jian", "Zhao, Hang"),
    2023,
)
MEANFLOW = Paper(
    "2505.13447",
    "geng2025mean",
    "Mean Flows for One-step Generative Modeling",
    ("Geng, Zhengyang", "Deng, Mingyang", "Bai, Xingjian", "Kolter, J. Zico", "He, Kaiming"),
    2025,
)
IMF = Paper(
    "2512.02012",
    "geng2025improved",
    "Improved Mean Flows: On the Challenges of Fastforward Generative Models",
    ("Geng, Zhengyang", "Lu, Yiyang", "Wu, Zongze", "Shechtman, Eli", "Kolter, J. Zico", "He, Kaiming"),
    2025,
)
AYF = Paper(
    "2506.14603",
    "sabour2025align",
    "Align Your Flow: Scaling Continuous-Time Flow Map Distillation",
    ("Sabour, Amirmojtaba", "Fidler, Sanja", "Kreis, Karsten"),
    2025,
)
LSD = Paper(
    "2505.18825",
    "boffi2025build",
    "How to build a consistency model: Learning flow maps via self-distillation",
    ("Boffi, Nicholas M.", "Albergo, Michael S.", "Vanden-Eijnden, Eric"),
    2025,
)
SHORTCUT = Paper(
    "2410.12557",
    "frans2024one",
    "One Step Diffusion via Shortcut Models",
    ("Frans, Kevin", "Hafner, Danijar", "Levine, Sergey", "Abbeel, Pieter"),
    2024,
)
TVM = Paper(
    "2511.19797",
    "zhou2025terminal",
    "Terminal Velocity Matching",
    ("Zhou, Linqi", "Parger, Mathias", "Haque, Ayaan", "Song, Jiaming"),
    2025,
)
ALPHAFLOW = Paper(
    "2510.20771",
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
)
SID = Paper(
    "2404.04057",
    "zhou2024score",
    "Score identity Distillation: Exponentially Fast Distillation of Pretrained Diffusion Models for One-Step "
    "Generation",
    ("Zhou, Mingyuan", "Zheng, Huangjie", "Wang, Zhendong", "Yin, Mingzhang", "Huang, Hai"),
    2024,
)
IMM = Paper(
    "2503.07565",
    "zhou2025inductive",
    "Inductive Moment Matching",
    ("Zhou, Linqi", "Ermon, Stefano", "Song, Jiaming"),
    2025,
)
DMD2 = Paper(
    "2405.14867",
    "yin2024improved",
    "Improved Distribution Matching Distillation for Fast Image Synthesis",
    (
        "Yin, Tianwei",
        "Gharbi, Michael",
        "Park, Taesung",
        "Zhang, Richard",
        "Shechtman, Eli",
        "Durand, Fredo",
        "Freeman, William T.",
    ),
    2024,
)
RCM = Paper(
    "2510.08431",
    "zheng2025large",
    "Large Scale Diffusion Distillation via Score-Regularized Continuous-Time Consistency",
    (
        "Zheng, Kaiwen",
        "Wang, Yuji",
        "Ma, Qianli",
        "Chen, Huayu",
        "Zhang, Jintao",
        "Balaji, Yogesh",
        "Chen, Jianfei",
        "Liu, Ming-Yu",
        "Zhu, Jun",
        "Zhang, Qinsheng",
    ),
    2025,
)

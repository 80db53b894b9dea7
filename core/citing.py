"""How the papers of objectives are cited."""

from trigbench.core.objectives import OBJECTIVES


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
    return "\n\n".join(paper.bibtex() for paper in dict.fromkeys(look.paper for look in looks if look and look.paper))

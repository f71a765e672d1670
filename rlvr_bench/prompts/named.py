r"""The named prompt templates, each with its source."""

from __future__ import annotations

from rlvr_bench.prompts.template import PromptTemplate

__all__ = ["PROMPTS"]

_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
_LETTER = "Please reason step by step, and put the letter of the correct option within \\boxed{}."

_CONVERSATION = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant first "
    "thinks about the reasoning process in the mind and then provides the user with the answer."
)
_TAGS = (
    " The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., "
    "<think> reasoning process here </think> <answer> answer here </answer>."
)
_SHOW = "Show your work in <think> </think> tags. And return the final answer in <answer> </answer> tags."
_DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
    "(without quotes) where $Answer is the answer to the problem.\n\n{question}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)
# The first four examples of Wei et al. 2022 (arXiv 2201.11903, table 20), which the literature uses for GSM8K.
_WORKED = (
    (
        "There are 15 trees in the grove. Grove workers will plant trees in the grove today. After they are done, there will "
        "be 21 trees. How many trees did the grove workers plant today?",
        "There are 15 trees originally. Then there were 21 trees after some more were planted. So there must have been "
        "21 - 15 = 6. The answer is 6.",
    ),
    (
        "If there are 3 cars in the parking lot and 2 more cars arrive, how many cars are in the parking lot?",
        "There are originally 3 cars. 2 more cars arrive. 3 + 2 = 5. The answer is 5.",
    ),
    (
        "Leah had 32 chocolates and her sister had 42. If they ate 35, how many pieces do they have left in total?",
        "Originally, Leah had 32 chocolates. Her sister had 42. So in total they had 32 + 42 = 74. After eating 35, they had "
        "74 - 35 = 39. The answer is 39.",
    ),
    (
        "Jason had 20 lollipops. He gave Denny some lollipops. Now Jason has 12 lollipops. How many lollipops did Jason give "
        "to Denny?",
        "Jason started with 20 lollipops. Then he had 12 after giving some to Denny. So he gave Denny 20 - 12 = 8. The answer "
        "is 8.",
    ),
)

PROMPTS: dict[str, PromptTemplate] = {
    template.name: template
    for template in (
        # The Qwen2.5-Math prompt, used for base and RL models alike in the pass@k literature (arXiv 2504.13837): the raw
        # text spells out ChatML because a base checkpoint often comes without its chat template.
        PromptTemplate(
            name="qwen-boxed",
            text="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{question}\n"
            + _BOXED
            + "<|im_end|>\n<|im_start|>assistant\n",
            user="{question}\n" + _BOXED,
        ),
        # For checkpoints that know neither ChatML nor instructions. No space after "Answer:": tokenizers attach the space
        # to the next word, and a trailing one would push the model off its distribution.
        PromptTemplate(
            name="simple-boxed",
            text="Question:\n{question}\n" + _BOXED + "\nAnswer:",
            user="{question}\n" + _BOXED,
        ),
        # The same for lettered options, which are part of the question.
        PromptTemplate(
            name="choice-boxed",
            text="Question:\n{question}\n" + _LETTER + "\nAnswer:",
            user="{question}\n\n" + _LETTER,
        ),
        # The question alone, as the user's message; instructions to follow are complete in themselves.
        PromptTemplate(name="question", text="{question}\n\n", user="{question}"),
        # The question alone, never through a chat template.
        PromptTemplate(name="raw", text="{question}"),
        # The problem's conversation as it is, for environments that bring their own instructions.
        PromptTemplate(name="conversation", text="{question}", user="{question}", earlier="messages"),
        # HumanEval-style completion for chat models; base models continue the program itself.
        PromptTemplate(
            name="python-function",
            text="{question}",
            user="Complete the following Python function. Give the whole program in one ```python block.\n\n"
            "```python\n{question}\n```",
        ),
        PromptTemplate(
            name="python-program",
            text='"""\n{question}\n"""\n',
            user="{question}\n\nGive the whole program in one ```python block.",
        ),
        # DeepSeek-R1-Zero's template (arXiv 2501.12948, table 1), for base models. Its first part is the system message of
        # models with a chat template.
        PromptTemplate(
            name="r1-zero",
            text=_CONVERSATION + _TAGS + " User: {question}. Assistant:",
            system=_CONVERSATION + _TAGS,
            user="{question}",
            policy="auto",
        ),
        # TinyZero's template (github.com/Jiayi-Pan/TinyZero, examples/data_preprocess/countdown.py), with the task's question
        # in place of its puzzle. Its raw text opens the thought and the first sentence of the response.
        PromptTemplate(
            name="answer-tags",
            text=_CONVERSATION
            + "\nUser: {question} "
            + _SHOW
            + "\nAssistant: Let me solve this step by step.\n<think>",
            user="{question} " + _SHOW,
            policy="auto",
        ),
        # The user message of DAPO's training data (arXiv 2503.14476; BytedTsinghua-SIA/DAPO-Math-17k).
        PromptTemplate(name="dapo", text=_DAPO + "\n", user=_DAPO, policy="auto"),
        # Chain of thought by four examples; a base model goes on with another question, which the stop string cuts off.
        PromptTemplate(
            name="gsm8k-4-shot",
            text="".join(f"Q: {question}\nA: {answer}\n\n" for question, answer in _WORKED) + "Q: {question}\nA:",
            user="Q: {question}\nA:",
            shots=tuple(
                {"role": role, "content": content}
                for question, answer in _WORKED
                for role, content in (("user", f"Q: {question}\nA:"), ("assistant", answer))
            ),
            policy="auto",
            stop=("\nQ:",),
        ),
    )
}

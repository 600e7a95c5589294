"""langchain's interfaces on top of the index: the same passages, in langchain's words."""

from langchain_core.runnables import RunnableLambda
from word_vectors import WordVectors

from knowledge_base.chain import DocumentLoader, PassageRetriever
from knowledge_base.index import open_index
from knowledge_base.retriever import search


def test_a_chain_gets_what_search_finds(home, tmp_path):
    path = tmp_path / "pump.md"
    path.write_text("# Pump\n## Ports\nPort 502 is open.\n## Codes\nE-431 means air.\n")
    with open_index(home, WordVectors()) as index:
        index.add([path], about="Acme P-7")
        found = search(index, "what does E-431 mean", k=1)
        chain = PassageRetriever(index=index, k=1) | RunnableLambda(lambda some: some[0])
        document = chain.invoke("what does E-431 mean")
        assert (document.id, document.page_content) == (found[0].chunk_id, "E-431 means air.")
        assert document.metadata["section"] == "Codes"
        assert document.metadata["about"] == "Acme P-7"
        assert PassageRetriever(index=index).invoke("zebra xylophone") == []
        loaded = DocumentLoader(path).load()
        assert {one.id for one in loaded} == {chunk.id for chunk in index.chunks()}
